import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeChosenPrompt, readPromptFile } from "../../src/cli/prompt.ts";
import type { TextModel } from "../../src/text/text-model.ts";

let folder = "";
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), "blockllm-prompt-"))));
afterAll(() => rmSync(folder, { recursive: true }));

function file(content: string): string {
  const path = join(folder, "prompts");
  writeFileSync(path, content);
  return path;
}

describe("a prompt file", () => {
  it.each([
    ["an array of strings", '["a", "b"]'],
    ["an array of objects", '[{"prompt": "a", "answer": "x"}, {"prompt": "b"}]'],
    ["lines of strings", '"a"\n"b"\n'],
    ["lines of objects, with empty ones between", '{"prompt": "a"}\n\n{"prompt": "b"}\n'],
  ])("may be %s", async (_what, content) => {
    expect(await readPromptFile(file(content))).toEqual(["a", "b"]);
  });

  it.each(["", "[]", "owner", '{"question": "a"}', "[1]"])("may not be %j", async (content) => {
    await expect(readPromptFile(file(content))).rejects.toMatchObject({ code: "usage", hint: /prompt/ });
  });
});

it.each([
  ["is not there", "nowhere.json", /^--(messages|prompts) .*nowhere.json: there is no such file$/],
  ["is a folder", "", /^--(messages|prompts) .*: it is a folder$/],
])("a file that %s is called so", async (_what, name, message) => {
  const path = join(folder, name);
  const refusal = {
    code: "usage",
    message: expect.stringMatching(message),
    hint: expect.stringContaining("the file holds"),
  };
  await expect(readPromptFile(path)).rejects.toMatchObject(refusal);
  await expect(encodeChosenPrompt({ messages: path }, {} as TextModel)).rejects.toMatchObject(refusal);
});

describe("the prompt of a command", () => {
  it("is given in exactly one way", async () => {
    await expect(encodeChosenPrompt({}, null)).rejects.toMatchObject({ code: "usage" });
    await expect(encodeChosenPrompt({ prompt: "a", tokens: [1] }, null)).rejects.toMatchObject({ code: "usage" });
  });

  it("needs no tokenizer when it is token ids", async () => {
    expect(await encodeChosenPrompt({ tokens: [1, 2] }, null)).toEqual([1, 2]);
    await expect(encodeChosenPrompt({ prompt: "a" }, null)).rejects.toMatchObject({ code: "tokenizer_missing" });
  });
});
