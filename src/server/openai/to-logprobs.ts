import type { Tokenizer } from "../../text/tokenizer.ts";
import type { OutputToken } from "../generation.ts";
import type { WireCompletionLogprobs, WireTokenLogprob } from "./wire.ts";

/** JSON has no -Infinity: what stands for a probability of nothing, as OpenAI writes it. */
const IMPOSSIBLE = -9999;

export function toChatLogprobs(
  tokens: readonly OutputToken[],
  tokenizer: Tokenizer,
): { content: WireTokenLogprob[]; refusal: null } {
  const content = tokens.map(({ id, logprob, top }) => ({
    ...named(id, logprob, tokenizer),
    top_logprobs: top.map((other) => named(other.token, other.logprob, tokenizer)),
  }));
  return { content, refusal: null };
}

/** `start`: where the answer begins in the text that is given back; the prompt's length when it is echoed. */
export function toCompletionLogprobs(
  tokens: readonly OutputToken[],
  { tokenizer, start, withTop }: { tokenizer: Tokenizer; start: number; withTop: boolean },
): WireCompletionLogprobs {
  return {
    tokens: tokens.map(({ id }) => legacyName(id, tokenizer)),
    token_logprobs: tokens.map(({ logprob }) => finite(logprob)),
    top_logprobs: withTop
      ? tokens.map(({ top }) =>
          Object.fromEntries(top.map((other) => [legacyName(other.token, tokenizer), finite(other.logprob)])),
        )
      : null,
    text_offset: tokens.map(({ offset }) => start + offset),
  };
}

/** Here tokens have no list of bytes: one that is part of a character is written `bytes:\\xf0`, so that none are confused. */
function legacyName(token: number, tokenizer: Tokenizer): string {
  const { text, bytes } = tokenizer.piece(token);
  if (Buffer.from(text, "utf8").equals(Buffer.from(bytes))) return text;
  return `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
}

function named(token: number, logprob: number | null, tokenizer: Tokenizer) {
  const { text, bytes } = tokenizer.piece(token);
  return { token: text, bytes, logprob: finite(logprob) };
}

function finite(logprob: number | null): number {
  return logprob === null || !Number.isFinite(logprob) ? IMPOSSIBLE : logprob;
}
