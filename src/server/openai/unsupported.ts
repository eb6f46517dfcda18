import { InvalidRequest } from "./invalid-request.ts";

/**
 * Keys of the official client that would change the answer and that blockllm does not do: refused rather than ignored,
 * except with a value that asks for nothing. Such a key is taken out of the body.
 */
type Unsupported = Record<string, { what: string; harmless: (value: unknown) => boolean }>;

const isEmpty = (value: unknown): boolean =>
  value === null || value === undefined || (typeof value === "object" && Object.keys(value).length === 0);
const isOneOf =
  (...values: unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value) || isEmpty(value);

const LOGIT_BIAS = { logit_bias: { what: "a bias on single tokens", harmless: isEmpty } };

export const UNSUPPORTED_IN_CHAT: Unsupported = {
  ...LOGIT_BIAS,
  tools: { what: "tool calling", harmless: isEmpty },
  tool_choice: { what: "tool calling", harmless: isOneOf("none", "auto") },
  functions: { what: "function calling", harmless: isEmpty },
  function_call: { what: "function calling", harmless: isOneOf("none", "auto") },
  response_format: { what: "constrained output", harmless: (value) => isEmpty(value) || isTextFormat(value) },
  modalities: {
    what: "output other than text",
    harmless: (value) => JSON.stringify(value) === '["text"]' || isEmpty(value),
  },
  audio: { what: "audio", harmless: isEmpty },
  prediction: { what: "predicted output", harmless: isEmpty },
  moderation: { what: "moderation", harmless: isEmpty },
  reasoning_effort: { what: "a reasoning effort", harmless: isOneOf("none") },
  verbosity: { what: "verbosity", harmless: isOneOf("medium") },
  web_search_options: { what: "web search", harmless: (value) => value === null || value === undefined },
};

export const UNSUPPORTED_IN_COMPLETIONS: Unsupported = {
  ...LOGIT_BIAS,
  suffix: { what: "text after the completion", harmless: isOneOf("") },
  best_of: { what: "choosing the best of several completions", harmless: isOneOf(1) },
};

/** The body without the keys of `table`. @throws `request_invalid` when one of them asks for something. */
export function withoutUnsupported(body: Record<string, unknown>, table: Unsupported): Record<string, unknown> {
  const rest = { ...body };
  for (const [key, { what, harmless }] of Object.entries(table)) {
    if (!Object.hasOwn(rest, key)) continue;
    if (!harmless(rest[key])) throw new InvalidRequest(`"${key}" asks for ${what}, which is not supported`, key);
    delete rest[key];
  }
  return rest;
}

function isTextFormat(value: unknown): boolean {
  return typeof value === "object" && value !== null && "type" in value && value.type === "text";
}
