import type { EngineClient } from "../engine/engine-client.ts";
import type { ServedModel } from "../engine/request.ts";
import { type ChoiceEvent, type OutputToken, startGeneration } from "../server/generation.ts";
import { planChoices } from "../server/openai/to-engine-request.ts";
import type { SharedRequest } from "../server/openai/wire.ts";
import type { TextModel } from "../text/text-model.ts";

export interface CompletionOptions {
  model: ServedModel;
  text: TextModel | null;
  prompt: number[];
  sampling: SharedRequest;
  /** null: as many as fit. */
  maxTokens: number | null;
  /** null: none. */
  logprobs: number | null;
  signal: AbortSignal;
  onText: (text: string) => void;
}

/** The keys are the stable JSON of `generate`. */
export interface Completion {
  model: string;
  prompt_tokens: number[];
  tokens: number[];
  text: string;
  finish_reason: string;
  logprobs?: { token: number; logprob: number | null; top: OutputToken["top"] }[];
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
  timings: { first_token_ms: number; total_ms: number; tokens_per_second: number | null };
}

/** One answer from an engine that serves nobody else. */
export async function completeOnce(engine: EngineClient, options: CompletionOptions): Promise<Completion> {
  const { model, text, prompt, sampling, maxTokens, logprobs, signal, onText } = options;
  const plans = planChoices({ model, text, caller: null, deadline: null, fields: sampling, maxTokens, logprobs }, [
    prompt,
  ]);
  const began = performance.now();
  const generation = startGeneration(engine, plans, { onStart: () => {}, onToken: () => {}, onEnd: () => {} });
  signal.addEventListener("abort", () => generation.cancel(), { once: true });
  const tokens: OutputToken[] = [];
  let answer = "";
  let firstToken: number | null = null;
  let end: (ChoiceEvent & { type: "choice-end" }) | null = null;
  for await (const event of generation.events) {
    firstToken ??= performance.now();
    answer += event.text;
    tokens.push(...event.tokens);
    onText(event.text);
    if (event.type === "choice-end") end = event;
  }
  signal.throwIfAborted();
  if (end === null) throw new Error("the generation gave no end");
  const total = performance.now() - began;
  const decoding = began + total - (firstToken ?? began);
  return {
    model: model.name,
    prompt_tokens: prompt,
    tokens: tokens.map(({ id }) => id),
    text: answer,
    finish_reason: end.reason,
    ...(logprobs === null ? {} : { logprobs: tokens.map(({ id, logprob, top }) => ({ token: id, logprob, top })) }),
    usage: {
      prompt_tokens: prompt.length,
      completion_tokens: end.completionTokens,
      total_tokens: prompt.length + end.completionTokens,
    },
    timings: {
      first_token_ms: Math.round((firstToken ?? began) - began),
      total_ms: Math.round(total),
      tokens_per_second: tokens.length < 2 ? null : Number(((tokens.length - 1) / (decoding / 1000)).toFixed(1)),
    },
  };
}
