import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StreamDecoder } from "../../src/text/stream-decoder.ts";
import type { Tokenizer } from "../../src/text/tokenizer.ts";
import { deskText, METASPACE_DECODER, sentencePieceTokenizer, WORD_PIECE_DECODER } from "./sample-tokenizers.ts";

const KINDS: { kind: string; tokenizer: Tokenizer; vocabulary: number }[] = [
  { kind: "byte-level", tokenizer: deskText().tokenizer, vocabulary: 520 },
  { kind: "SentencePiece", tokenizer: sentencePieceTokenizer(), vocabulary: 275 },
  { kind: "Metaspace", tokenizer: sentencePieceTokenizer(METASPACE_DECODER), vocabulary: 275 },
  { kind: "WordPiece", tokenizer: sentencePieceTokenizer(WORD_PIECE_DECODER), vocabulary: 275 },
];

describe.each(KINDS)("$kind", ({ tokenizer, vocabulary }) => {
  test("the pieces of any tokens join to the text of all of them", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(vocabulary - 1), { maxLength: 60 }), (tokens) => {
        expect(stream(tokenizer, tokens).join("")).toBe(tokenizer.decode(tokens));
      }),
      { numRuns: 300 },
    );
  });

  test("tokens that are mostly broken bytes join to the text of all of them", () => {
    const broken = Array.from({ length: vocabulary }, (_, id) => id).filter(
      (id) => tokenizer.piece(id).text === "\uFFFD",
    );
    if (broken.length === 0) return;
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...broken, 40), { maxLength: 80 }), (tokens) => {
        expect(stream(tokenizer, tokens).join("")).toBe(tokenizer.decode(tokens));
      }),
      { numRuns: 300 },
    );
  });

  test("text in any script comes back whole, and no piece holds half a character", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 30 }), (text) => {
        const tokens = tokenizer.encode(text, { plain: true });
        const pieces = stream(tokenizer, tokens);
        expect(pieces.join("")).toBe(tokenizer.decode(tokens));
        expect(pieces.some(isBroken)).toBe(isBroken(tokenizer.decode(tokens)));
      }),
      { numRuns: 200 },
    );
  });
});

test("a character of four byte tokens is given out with its last byte", () => {
  const { tokenizer } = deskText();
  const tokens = tokenizer.encode("🦆", { plain: true });
  expect(tokens.length).toBe(4);
  expect(stream(tokenizer, tokens)).toEqual(["", "", "", "🦆", ""]);
});

test("an answer that stops inside a character ends with one replacement character", () => {
  const { tokenizer } = deskText();
  const tokens = tokenizer.encode("ok🦆", { plain: true }).slice(0, -1);
  expect(stream(tokenizer, tokens).join("")).toBe("ok\uFFFD");
});

test("the work per token does not grow with the text, not even when every byte is broken", () => {
  const { tokenizer } = deskText();
  let longest = 0;
  const counting: Tokenizer = {
    ...tokenizer,
    decode: (tokens) => {
      longest = Math.max(longest, tokens.length);
      return tokenizer.decode(tokens);
    },
  };
  const continuation = tokenizer.encode("🦆", { plain: true })[3]!;
  stream(counting, [...tokenizer.encode("hello there ".repeat(50)), ...Array<number>(500).fill(continuation)]);
  expect(longest).toBeLessThanOrEqual(17);
});

function stream(tokenizer: Tokenizer, tokens: readonly number[]): string[] {
  const decoder = new StreamDecoder(tokenizer);
  return [...tokens.map((token) => decoder.push(token)), decoder.finish()];
}

function isBroken(text: string): boolean {
  return text.includes("\uFFFD") || /\p{Surrogate}/u.test(text);
}
