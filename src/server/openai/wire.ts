import { z } from "zod";
import { messageContent, promptInput } from "./wire-lists.ts";

/**
 * OpenAI's names for requests, and which of them are understood. Reference: https://platform.openai.com/docs/api-reference,
 * as the official client (`openai` 6) types it; `top_k`, `min_p`, `repetition_penalty`, `ignore_eos` and
 * `return_token_ids` are named as in vLLM; `timeout` is our own. Clients send null for what they leave out, so null is everywhere the same as absence.
 */

const STOP_LIMIT = 4;
const STOP_LENGTH_LIMIT = 1024;
const LOGPROBS_LIMIT = 20;
/** Templates take a millisecond for twenty of them, on the thread that serves everybody. */
const MESSAGES_LIMIT = 4096;

const stopString = z.string().min(1).max(STOP_LENGTH_LIMIT);

const SHARED_KEYS = {
  model: z.string().min(1),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).max(10).nullish(),
  seed: z.int().nullish(),
  n: z.int().min(1).nullish(),
  max_tokens: z.int().min(1).nullish(),
  stop: z
    .union([stopString, z.array(stopString).max(STOP_LIMIT)], {
      error: `expected a string or up to ${STOP_LIMIT} strings, each of 1 to ${STOP_LENGTH_LIMIT} characters`,
    })
    .nullish(),
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() })
    .nullish(),
  return_token_ids: z.boolean().nullish(),
  timeout: z.number().gt(0).nullish(),
  ignore_eos: z.boolean().nullish(),
};

const IGNORED = z.unknown().optional();

/** Keys of the official client that change nothing in an answer: taken and not looked at. */
const IGNORED_KEYS = {
  user: IGNORED,
  metadata: IGNORED,
  store: IGNORED,
  service_tier: IGNORED,
  safety_identifier: IGNORED,
};

const NO_TOOLS = "tool calling is not supported";

const message = z.strictObject({
  role: z.enum(["system", "developer", "user", "assistant"], {
    error: `expected "system", "developer", "user" or "assistant"; ${NO_TOOLS}`,
  }),
  content: messageContent,
  name: z.string().nullish(),
  // What an answer carries when a client sends it back as it came; the Python client writes out all that it knows.
  refusal: z.null().optional(),
  annotations: z.array(z.unknown()).nullish(),
  audio: z.null({ error: "audio is not supported" }).optional(),
  function_call: z.null({ error: NO_TOOLS }).optional(),
  tool_calls: z.array(z.unknown()).max(0, { error: NO_TOOLS }).nullish(),
  tool_call_id: z.null({ error: NO_TOOLS }).optional(),
});

export const chatRequest = z.strictObject({
  ...SHARED_KEYS,
  ...IGNORED_KEYS,
  // Counted before any of them is looked at.
  messages: z.array(z.unknown()).min(1).max(MESSAGES_LIMIT).pipe(z.array(message)),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(LOGPROBS_LIMIT).nullish(),
  parallel_tool_calls: IGNORED,
  prompt_cache_key: IGNORED,
  prompt_cache_options: IGNORED,
  prompt_cache_retention: IGNORED,
});
export type ChatRequest = z.infer<typeof chatRequest>;

export const completionRequest = z.strictObject({
  ...SHARED_KEYS,
  ...IGNORED_KEYS,
  prompt: promptInput,
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(LOGPROBS_LIMIT).nullish(),
});
export type CompletionRequest = z.infer<typeof completionRequest>;

export type SharedRequest = Pick<ChatRequest & CompletionRequest, Exclude<keyof typeof SHARED_KEYS, "model">>;

export interface WireError {
  error: { message: string; type: string; param: string | null; code: string };
}

export interface WireUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Where some of the prompt was found cached. */
  prompt_tokens_details?: { cached_tokens: number };
}

export type WireFinishReason = "stop" | "length";

/** One token of `logprobs.content` of a chat answer. */
export interface WireTokenLogprob {
  token: string;
  bytes: number[];
  logprob: number;
  top_logprobs: { token: string; bytes: number[]; logprob: number }[];
}

/** `logprobs` of a completion: one entry per token in each list. */
export interface WireCompletionLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[] | null;
  text_offset: number[];
}
