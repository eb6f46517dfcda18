import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createTextModel } from "../../src/text/load-text-model.ts";
import type { TextModel } from "../../src/text/text-model.ts";
import { createTokenizer } from "../../src/text/tokenizer.ts";
import type { Tokenizer } from "../../src/text/tokenizer.ts";

const FIXTURES = join(import.meta.dirname, "..", "..", "fixtures");

/** The desk family's tokenizer and template: byte-level BPE, `<s>` in front, `</s>` at the end. */
export function deskText(model = "optimum/base"): TextModel {
  const read = (name: string) => readFileSync(join(FIXTURES, "desk", model, name), "utf8");
  return createTextModel({
    tokenizer: read("tokenizer.json"),
    config: read("tokenizer_config.json"),
    specialTokens: null,
    template: read("chat_template.jinja"),
    templateJson: null,
  });
}

const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const WORDS = ["▁", "▁▁", "▁hello", "hello", "▁world", "!", "é", "▁日本", "a", "▁a", "\uFFFD", "<0x"];

/** What Llama 2's tokenizer.json looks like: SentencePiece by byte fallback. Ids: 3 special, 256 bytes, 12 words. */
export function sentencePieceTokenizer(decoder: object = LLAMA_DECODER): Tokenizer {
  const names = ["<unk>", "<s>", "</s>", ...BYTES, ...WORDS];
  return createTokenizer(
    {
      model: {
        type: "BPE",
        vocab: Object.fromEntries(names.map((name, id) => [name, id])),
        merges: [],
        unk_token: "<unk>",
        byte_fallback: true,
      },
      added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content, special: true, normalized: false })),
      normalizer: { type: "Replace", pattern: { String: " " }, content: "▁" },
      pre_tokenizer: null,
      post_processor: null,
      decoder,
    },
    {},
  );
}

const LLAMA_DECODER = {
  type: "Sequence",
  decoders: [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    { type: "Strip", content: " ", start: 1, stop: 0 },
  ],
};

export const METASPACE_DECODER = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
export const WORD_PIECE_DECODER = { type: "WordPiece", prefix: "##", cleanup: false };
