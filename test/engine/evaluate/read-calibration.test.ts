import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { linesFor } from "../../../src/engine/evaluate/choose-models.ts";
import { readCalibration } from "../../../src/engine/evaluate/read-calibration.ts";
import { FIXTURES } from "../../blocks/split-fixtures.ts";

let folder = "";
beforeAll(async () => (folder = await mkdtemp(join(tmpdir(), "blockllm-calibration-"))));
afterAll(async () => await rm(folder, { recursive: true, force: true }));

async function written(name: string, content: string | Uint8Array) {
  const path = join(folder, name);
  await writeFile(path, content);
  return { path, models: null };
}

describe("readCalibration", () => {
  it("reads lines of prompts and of messages, with answers and models", async () => {
    const file = await written(
      "good.jsonl",
      [
        '{"prompt": "ticket :", "answer": "queue access ."}',
        "",
        '{"messages": [{"role": "user", "content": "who holds the printer"}], "model": "hr:latest"}',
      ].join("\n"),
    );
    const { lines, digest } = await readCalibration([file]);
    expect(lines).toEqual([
      { question: { prompt: "ticket :" }, answer: "queue access .", models: null, place: `line 1 of ${file.path}` },
      {
        question: { messages: [{ role: "user", content: "who holds the printer" }] },
        answer: null,
        models: ["hr"],
        place: `line 3 of ${file.path}`,
      },
    ]);
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it("reads the evaluation files of the desk family as they are, several for the models that are named", async () => {
    const files = ["support", "legal"].map((name) => ({
      path: join(FIXTURES, `desk/eval/${name}.json`),
      models: [name],
    }));
    const { lines, digest } = await readCalibration(files);
    expect(lines).toHaveLength(200);
    expect(lines[0]).toMatchObject({ answer: "queue access .", models: ["support"] });
    expect(lines[199]).toMatchObject({ models: ["legal"], place: `entry 100 of ${files[1]!.path}` });
    const other = await readCalibration(files.toReversed());
    expect(other.digest).not.toBe(digest);
  });

  it("asks a model each question once, with the first answer, and says how many lines repeat another", async () => {
    const line = (question: object, more: object = {}) => JSON.stringify({ ...question, ...more });
    const file = await written(
      "repeated.jsonl",
      [
        line({ prompt: "x" }, { answer: "one" }),
        line({ prompt: "y" }, { model: "other" }),
        line({ messages: [{ role: "user", content: "x" }] }),
        line({ prompt: "x" }, { answer: "two" }),
        line({ prompt: "x" }, { model: "other" }),
      ].join("\n"),
    );
    const calibration = await readCalibration([file]);
    expect(linesFor(calibration, "one")).toEqual({ lines: [0, 2].map((at) => calibration.lines[at]), repeated: 1 });
    expect(linesFor(calibration, "other")).toEqual({
      lines: [0, 1, 2].map((at) => calibration.lines[at]),
      repeated: 2,
    });
  });

  it("knows the same prompts by their digest, whatever the file is called", async () => {
    const [a, b] = [await written("a.jsonl", '{"prompt": "x"}'), await written("b.json", '[{"prompt": "x"}]')];
    expect((await readCalibration([a])).digest).toBe((await readCalibration([b])).digest);
  });

  it.each([
    ["no JSON", '{"prompt": "a"}\n{"prompt": ', /line 2 of .*: not JSON/],
    ["neither prompt nor messages", '{"answer": "a"}', /line 1 of .*: it needs prompt or messages/],
    ["both", '{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}', /line 1 of .*not both/],
    ["a field nobody knows", '{"prompt": "a", "awnser": "b"}', /line 1 of .*awnser/],
    ["a prompt that is no text", '{"prompt": 5}', /line 1 of .*prompt: /],
    ["an empty prompt", '{"prompt": ""}', /line 1 of .*prompt: /],
    ["no message", '{"messages": []}', /line 1 of .*messages: /],
    ["a wrong entry of an array", '[{"prompt": "a"}, 7]', /entry 2 of /],
    ["nothing", "\n\n", /it has no lines/],
    ["an array of nothing", "[]", /it has no lines/],
    ["a name no model can have", '{"prompt": "a", "model": "../x"}', /line 1 of .*no model name/],
  ])("refuses %s and says where", async (_, content, message) => {
    const reading = readCalibration([await written("wrong.jsonl", content)]);
    await expect(reading).rejects.toMatchObject({ code: "usage", message: expect.stringMatching(message) });
  });

  it("refuses a file that is not there, is no text, or is too much", async () => {
    const latin = await written("latin.jsonl", Uint8Array.from([0x7b, 0xe4, 0x7d]));
    const many = await written("many.jsonl", '{"prompt": "a"}\n'.repeat(20_001));
    for (const [file, message] of [
      [{ path: join(folder, "nowhere.jsonl"), models: null }, /no such file/],
      [{ path: folder, models: null }, /it is a folder/],
      [latin, /not valid/],
      [many, /at most 20000/],
    ] as const) {
      const expected = { code: "usage", message: expect.stringMatching(message) };
      await expect(readCalibration([file])).rejects.toMatchObject(expected);
    }
  });

  // Windows has no device that gives bytes without end.
  it.skipIf(process.platform === "win32")(
    "reads no more of what has no end than of a file, and can be told to stop",
    async () => {
      const endless = { path: "/dev/zero", models: null };
      await expect(readCalibration([endless])).rejects.toMatchObject({
        code: "usage",
        message: expect.stringContaining("more than the 67108864 bytes"),
      });
      await expect(readCalibration([endless], AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
    },
  );
});
