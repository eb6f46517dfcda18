import type { Context } from "hono";
import { encodePrompt } from "../../text/text-model.ts";
import type { TextModel } from "../../text/text-model.ts";
import { findModel, requireText } from "../find-model.ts";
import { readBody } from "../read-body.ts";
import type { RouteEnv } from "../route-env.ts";
import type { Service } from "../service.ts";
import type { ServedModel } from "../../engine/request.ts";
import { toFinishReason } from "./finish-reason.ts";
import { deadlineOf } from "./deadline.ts";
import { InvalidRequest } from "./invalid-request.ts";
import { parseRequest } from "./parse-request.ts";
import { respond } from "./respond.ts";
import type { ResponseShape } from "./respond.ts";
import { planChoices, requireChoices } from "./to-engine-request.ts";
import { toCompletionLogprobs } from "./to-logprobs.ts";
import { UNSUPPORTED_IN_COMPLETIONS } from "./unsupported.ts";
import { completionRequest } from "./wire.ts";
import type { CompletionRequest } from "./wire.ts";

/** OpenAI's default for this endpoint. */
const DEFAULT_MAX_TOKENS = 16;

/** A prompt as it was sent, and as the model reads it. */
interface Prompt {
  tokens: number[];
  /** What `echo` puts in front of the answer; "" without `echo`. */
  echo: string;
}

/** POST /v1/completions */
export async function completions(context: Context<RouteEnv>, service: Service): Promise<Response> {
  const arrived = service.clock.now();
  const body = await readBody(context.req.raw, service.limits.bodyBytes);
  const fields = parseRequest(body, completionRequest, UNSUPPORTED_IN_COMPLETIONS);
  const caller = context.get("caller");
  const model = findModel(service.engine, fields.model, caller);
  context.set("model", model.name);
  const text = textFor(fields, model, service.texts);
  const several = severalPrompts(fields.prompt);
  requireChoices({ n: fields.n ?? 1, prompts: several.length }, service.limits, caller);
  const prompts = toPrompts(several, { text, echo: fields.echo ?? false, tokenLimit: model.contextLength });
  const spec = {
    model,
    text,
    caller,
    deadline: deadlineOf(context.req.raw.headers, { timeout: fields.timeout, arrived }),
    fields,
    maxTokens: fields.max_tokens ?? Math.min(DEFAULT_MAX_TOKENS, caller?.limits.maxTokens ?? Infinity),
    logprobs: fields.logprobs ?? null,
  };
  const plans = planChoices(
    spec,
    prompts.map((prompt) => prompt.tokens),
  );
  const shape = shapeOf(fields, text, {
    prompts,
    head: { id: `cmpl-${service.newId()}`, created: service.now(), model: model.name },
    choices: plans.length,
  });
  return respond(service, { plans, shape, caller, signal: context.req.raw.signal });
}

/** A model without a tokenizer can be asked with token ids, for token ids. */
function textFor(fields: CompletionRequest, model: ServedModel, texts: Service["texts"]): TextModel | null {
  if (fields.echo && typeof fields.logprobs === "number") {
    throw new InvalidRequest(
      '"echo" with "logprobs" asks for the prompt\'s probabilities, which is not supported',
      "echo",
    );
  }
  if (hasText(fields.prompt)) return requireText(texts, model, "a prompt in text");
  if (fields.stop?.length) return requireText(texts, model, '"stop"');
  if (fields.echo) return requireText(texts, model, '"echo"');
  if (typeof fields.logprobs === "number") return requireText(texts, model, '"logprobs"');
  return texts.get(model.name) ?? null;
}

function hasText(prompt: CompletionRequest["prompt"]): boolean {
  return typeof prompt === "string" || typeof prompt[0] === "string";
}

function severalPrompts(prompt: CompletionRequest["prompt"]): readonly (string | number[])[] {
  return typeof prompt === "string" || isTokens(prompt) ? [prompt] : prompt;
}

function toPrompts(
  several: readonly (string | number[])[],
  { text, echo, tokenLimit }: { text: TextModel | null; echo: boolean; tokenLimit: number },
): Prompt[] {
  return several.map((one) => {
    const tokens = typeof one === "string" ? encodePrompt(text!, one, tokenLimit) : one;
    if (!echo) return { tokens, echo: "" };
    return { tokens, echo: typeof one === "string" ? one : (text?.tokenizer.decode(one) ?? "") };
  });
}

function isTokens(prompt: Exclude<CompletionRequest["prompt"], string>): prompt is number[] {
  return typeof prompt[0] === "number";
}

function shapeOf(
  fields: CompletionRequest,
  text: TextModel | null,
  { prompts, head, choices }: { prompts: readonly Prompt[] } & Pick<ResponseShape, "head" | "choices">,
): ResponseShape {
  const echoOf = (index: number): string => prompts[Math.floor((index * prompts.length) / choices)]!.echo;
  const extras = (index: number, tokens: Parameters<typeof toCompletionLogprobs>[0]) => ({
    logprobs:
      typeof fields.logprobs === "number" && text !== null
        ? toCompletionLogprobs(tokens, {
            tokenizer: text.tokenizer,
            start: echoOf(index).length,
            withTop: fields.logprobs > 0,
          })
        : null,
    // Without a tokenizer the ids are all there is.
    ...(fields.return_token_ids || text === null ? { token_ids: tokens.map((token) => token.id) } : {}),
  });
  return {
    stream: fields.stream ?? false,
    includeUsage: fields.stream_options?.include_usage ?? false,
    head,
    choices,
    promptTokens: prompts.reduce((sum, prompt) => sum + prompt.tokens.length, 0),
    object: "text_completion",
    toChoice: ({ index, text: answer, tokens, reason }) => ({
      index,
      text: echoOf(index) + answer,
      ...extras(index, tokens),
      finish_reason: toFinishReason(reason),
    }),
    writer: {
      object: "text_completion",
      start: fields.echo ? (index) => ({ index, text: echoOf(index), logprobs: null, finish_reason: null }) : null,
      delta: ({ index, text: piece, tokens }) => ({ text: piece, ...extras(index, tokens) }),
      empty: () => ({ text: "", logprobs: null }),
    },
  };
}
