import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { encodePrompt } from "../../src/text/text-model.ts";
import { createTokenizer } from "../../src/text/tokenizer.ts";
import { deskText, sentencePieceTokenizer } from "./sample-tokenizers.ts";

test("the tokenizer puts its own special token in front, once", () => {
  const { tokenizer } = deskText();
  const tokens = tokenizer.encode("owner : who holds the lease =>");
  expect(tokens[0]).toBe(1);
  expect(tokens.filter((token) => token === 1)).toHaveLength(1);
  expect(tokenizer.encode("owner : who holds the lease =>", { plain: true })).toEqual(tokens.slice(1));
});

test("decoding leaves out special tokens and keeps spaces before points", () => {
  const { tokenizer } = deskText();
  expect(tokenizer.decode(tokenizer.encode("ben holds it ."))).toBe("ben holds it .");
  expect(tokenizer.decode([1, 2])).toBe("");
  expect(tokenizer.decode([])).toBe("");
});

test("ids that only pad the vocabulary are silent", () => {
  const { tokenizer } = deskText();
  expect(tokenizer.isSilent(511)).toBe(false);
  expect(tokenizer.isSilent(512)).toBe(true);
  expect(tokenizer.decode([9999])).toBe("");
});

test("a piece shows its leading space, its bytes, and special tokens by name", () => {
  const { tokenizer } = deskText();
  const [space] = tokenizer.encode(" who", { plain: true });
  expect(tokenizer.piece(space!).text.startsWith(" ")).toBe(true);
  expect(tokenizer.piece(2)).toEqual({ text: "</s>", bytes: [...Buffer.from("</s>")] });
  const duck = tokenizer.encode("🦆", { plain: true }).flatMap((token) => tokenizer.piece(token).bytes);
  expect(Buffer.from(duck).toString()).toBe("🦆");
});

test("a SentencePiece piece keeps its space and its byte", () => {
  const tokenizer = sentencePieceTokenizer();
  const world = tokenizer.tokenId("▁world")!;
  expect(tokenizer.piece(world).text).toBe(" world");
  expect(tokenizer.piece(tokenizer.tokenId("<0xE2>")!)).toEqual({ text: "\uFFFD", bytes: [0xe2] });
});

test("a text far too long is refused before it is tokenized", () => {
  const text = deskText();
  const { longestToken } = text.tokenizer;
  expect(encodePrompt(text, "e".repeat(64 * longestToken), 64).length).toBeGreaterThan(64);
  expect(() => encodePrompt(text, "e".repeat(64 * longestToken + 1), 64)).toThrow(
    expect.objectContaining({
      code: "context_length_exceeded",
      message: `the prompt has ${64 * longestToken + 1} characters, at least 65 tokens; the model holds 64`,
    }),
  );
});

test("a tokenizer of an unknown kind is refused with the reason", () => {
  const whole = {
    model: { type: "Magic" },
    decoder: null,
    post_processor: null,
    pre_tokenizer: null,
    normalizer: null,
  };
  expect(() => createTokenizer(whole, {})).toThrow(expect.objectContaining({ code: "model_invalid" }));
  expect(() => createTokenizer({}, {})).toThrow(/tokenizer\.json cannot be used/);
});

test.each(["optimum/llama", "optimum/gpt2", "optimum/qwen3", "genai/qwen2-cpu-fp32"])(
  "%s tokenizes and comes back",
  (folder) => {
    const read = (name: string): object =>
      JSON.parse(readFileSync(join(import.meta.dirname, "../../fixtures/exports", folder, name), "utf8"));
    const tokenizer = createTokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
    const tokens = tokenizer.encode("a b");
    expect(tokens.every((token) => Number.isInteger(token))).toBe(true);
  },
);
