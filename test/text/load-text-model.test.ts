import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Digest } from "../../src/blocks/block.ts";
import { createTextModel, loadTextModel, loadTextModels } from "../../src/text/load-text-model.ts";
import type { TextFiles } from "../../src/text/load-text-model.ts";

const FOLDER = join(import.meta.dirname, "../../fixtures/desk/optimum/base");
const NAMES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "special_tokens_map.json",
  "config.json",
];
const NONE = { tokenizer: null, config: null, specialTokens: null, template: null, templateJson: null };
const TOKENIZER = readFileSync(join(FOLDER, "tokenizer.json"), "utf8");

/** A repository that holds the folder's files under digests made of their place in the list. */
const repository = {
  blobs: { read: async (digest: Digest) => readFileSync(join(FOLDER, NAMES[Number(digest.slice(7))]!)) },
};
const files = NAMES.map((name, index) => ({ name, digest: `sha256:${index}` as const, bytes: 0 }));

test("a stored model's files make its text side", async () => {
  const text = await loadTextModel(repository, { files });
  expect(text.beginText).toBe("<s>");
  expect(text.endTokens).toEqual([2]);
  expect(text.chatTemplate?.render([{ role: "user", content: "x" }])).toBe("x =>");
});

test("a model without a tokenizer is tokenizer_missing, and is left out of many", async () => {
  const bare = { files: files.slice(1) };
  await expect(loadTextModel(repository, bare)).rejects.toMatchObject({ code: "tokenizer_missing" });
  const texts = await loadTextModels(
    repository,
    new Map([
      ["bare", bare],
      ["whole", { files }],
    ]),
  );
  expect([...texts.keys()]).toEqual(["whole"]);
});

test("a file that is no JSON object is model_invalid and named", () => {
  expect(() => createTextModel({ ...NONE, tokenizer: "[1]" })).toThrow(
    expect.objectContaining({ code: "model_invalid", message: expect.stringContaining("tokenizer.json") }),
  );
  expect(() => createTextModel({ ...NONE, tokenizer: TOKENIZER, config: "{" })).toThrow(/tokenizer_config\.json/);
});

test("templates and special tokens are found in every place that transformers has put them", () => {
  const listed = {
    chat_template: [
      { name: "tool_use", template: "t" },
      { name: "default", template: "d" },
    ],
  };
  expect(rendered({ config: JSON.stringify(listed) })).toBe("d");
  expect(rendered({ templateJson: JSON.stringify({ chat_template: "j" }) })).toBe("j");
  expect(
    rendered({ template: "{{ eos_token }}", specialTokens: JSON.stringify({ eos_token: { content: "</s>" } }) }),
  ).toBe("</s>");
  expect(rendered({})).toBeUndefined();
});

function rendered(given: Partial<TextFiles>): string | undefined {
  return createTextModel({ ...NONE, tokenizer: TOKENIZER, ...given }).chatTemplate?.render([]);
}
