import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { pieceBytes } from "./piece-bytes.ts";

/** Text ↔ token ids, as the model's own `tokenizer.json` says. Holds no state between calls. */
export interface Tokenizer {
  /** The special tokens that the tokenizer itself puts around a text (`<s>`) are added unless `plain`. */
  encode(text: string, options?: { plain?: boolean }): number[];
  /** Special tokens and ids without a token become nothing; every other token its exact text, nothing tidied up. */
  decode(tokens: readonly number[]): string;
  /** What `decode` leaves out: special tokens, and ids that only pad the vocabulary. */
  isSilent(token: number): boolean;
  /** One token by itself, as logprobs show it: its text in the middle of a text, and its UTF-8 bytes. */
  piece(token: number): TokenPiece;
  /** The id of the token that is written so in the vocabulary. */
  tokenId(name: string): number | undefined;
  /** No token stands for more UTF-16 units of text than so many. */
  longestToken: number;
}

export interface TokenPiece {
  /** Bytes that are no whole character show as U+FFFD. Special tokens show by name. */
  text: string;
  bytes: number[];
}

/** The parsed `tokenizer.json` and `tokenizer_config.json`. @throws `model_invalid` for a kind that is not known. */
export function createTokenizer(tokenizerJson: object, config: object): Tokenizer {
  const hub = openHubTokenizer(tokenizerJson, config);
  const silent = new Set<number>();
  for (const [id, added] of hub.get_added_tokens_decoder()) if (added.special) silent.add(id);
  const isSilent = (token: number): boolean => silent.has(token) || hub.id_to_token(token) === undefined;

  const decode = (tokens: readonly number[]): string => {
    const audible = tokens.filter((token) => !isSilent(token));
    // clean_up_tokenization_spaces joins " ." to "." and the like. It is on by default in many files, made for BERT,
    // and would give back a text that the model did not write.
    return audible.length === 0 ? "" : hub.decode(audible, { clean_up_tokenization_spaces: false });
  };

  // Some decoders drop the leading space of the first token, so a token is decoded behind another one.
  const before = hub.encode("a", { add_special_tokens: false }).ids.slice(-1);
  const offset = decode(before).length;

  return {
    // Characters outside a vocabulary that has no unknown token come as undefined: they are left out.
    encode: (text, options) =>
      hub
        .encode(text, { add_special_tokens: !(options?.plain ?? false) })
        .ids.filter((id: number | undefined) => id !== undefined),
    decode,
    isSilent,
    piece: (token) => {
      const name = hub.id_to_token(token) ?? "";
      const text = isSilent(token) ? name : decode([...before, token]).slice(offset);
      return { text, bytes: pieceBytes(text, name) };
    },
    tokenId: (name) => hub.token_to_id(name),
    // A byte-level name has a character per byte, which is at least one per UTF-16 unit.
    longestToken: Math.max(1, longestName(hub.get_vocab())),
  };
}

/** A vocabulary with holes has one name that is undefined. */
function longestName(vocabulary: ReadonlyMap<string | undefined, number>): number {
  let longest = 0;
  for (const name of vocabulary.keys()) longest = Math.max(longest, name?.length ?? 0);
  return longest;
}

function openHubTokenizer(tokenizerJson: object, config: object): HubTokenizer {
  try {
    // The library iterates added_tokens without asking whether they are there.
    return new HubTokenizer({ added_tokens: [], ...tokenizerJson }, config);
  } catch (cause) {
    throw new BlockllmError("model_invalid", `tokenizer.json cannot be used: ${reasonOf(cause)}`, {
      hint: "Save it again with a current `transformers` (AutoTokenizer.save_pretrained).",
      cause,
    });
  }
}
