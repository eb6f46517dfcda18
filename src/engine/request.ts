import type { ModelDocument } from "../store/model-document.ts";
import type { BlockllmError } from "../support/errors.ts";
import type { Priority } from "./schedule/priority.ts";
import type { Waited } from "./waits.ts";

/** What the engine serves under a name. */
export interface ServedModel {
  name: string;
  /** Tokens a sequence may have in all: what the model allows and the KV memory can hold. */
  contextLength: number;
  /** What sets the length: with more memory it would be longer, or not. */
  contextBound: "model" | "memory";
  vocabSize: number;
  endTokens: number[];
  document: ModelDocument;
  /** Why it runs on the CPU where other models run on a device. */
  hostReason?: string;
}

export interface EngineRequest {
  model: string;
  /** The prompt; at least one token. */
  tokens: number[];
  /** At most so many are generated; fewer where the context ends. */
  maxTokens: number;
  sampling?: Partial<Sampling>;
  /** End the sequence as the model's own end tokens do. */
  stopTokens?: number[];
  /** Whose turn it counts as; requests without one share a turn. */
  tenant?: string;
  /** How the tenant stands beside others; left out: as everybody. */
  policy?: Partial<TenantPolicy>;
  /** ms since 1970: what is not done by then is of no use. Without a token it ends as deadline_exceeded, else `deadline`. */
  deadline?: number;
  /** Go on after the model's end tokens. */
  ignoreEnd?: boolean;
}

export interface TenantPolicy {
  /** While several tenants of a class want something, each gets tokens in proportion to its weight. */
  weight: number;
  priority: Priority;
  /** Its sequences that run at once; more of them wait. null: as many as fit. */
  running: number | null;
  /** Its requests that may wait; null: up to a share of all places that depends on who else waits. */
  queued: number | null;
  /** Tenants of one group find each other's prompts cached; null: it finds only its own. */
  group: string | null;
}

export const DEFAULT_POLICY: TenantPolicy = {
  weight: 1,
  priority: "normal",
  running: null,
  queued: null,
  group: null,
};

export interface Sampling {
  /** 0: always the likeliest token. */
  temperature: number;
  /** Only the k likeliest; 0 or less: all. */
  topK: number;
  /** Only the likeliest that together have this probability; 1: all. */
  topP: number;
  /** Only those with at least this share of the likeliest one's probability; 0: all. */
  minP: number;
  /** Subtracted from the logit of every token generated before. */
  presencePenalty: number;
  /** As presence, times how often it was generated. */
  frequencyPenalty: number;
  /** Divides positive and multiplies negative logits of tokens in prompt or answer (CTRL, arXiv 1909.05858); 1: none. */
  repetitionPenalty: number;
  /** The same seed gives the same tokens; not given: a new one each time. */
  seed: number;
  /** Report log-probabilities: of the token (0) and of so many likeliest ones. null: none. */
  logprobs: number | null;
}

export type EndReason = "stop" | "length" | "deadline" | "cancelled" | "error";

/** A request gives any number of tokens and then exactly one end. The token that stops it is not given and not counted. */
export type EngineEvent =
  | ({ type: "token-delta"; /** With the first token: until then. */ waited?: Waited } & SampledToken)
  | {
      type: "request-end";
      reason: EndReason;
      error?: BlockllmError;
      promptTokens: number;
      completionTokens: number;
      /** Tokens of the prompt whose keys and values were kept from an earlier one; absent: none. */
      reusedTokens?: number;
      /** Absent where it never came to the engine. */
      waited?: Waited;
    };

export interface SampledToken {
  token: number;
  /** Natural logarithm under the model's own distribution, before temperature and penalties. */
  logprob?: number;
  /** Likeliest first. */
  topLogprobs?: { token: number; logprob: number }[];
}
