import type { Context } from "hono";
import { encodeChat } from "../../text/text-model.ts";
import type { ChatMessage } from "../../text/chat-template.ts";
import type { TextModel } from "../../text/text-model.ts";
import { findModel, requireText } from "../find-model.ts";
import { readBody } from "../read-body.ts";
import type { RouteEnv } from "../route-env.ts";
import type { Service } from "../service.ts";
import { toFinishReason } from "./finish-reason.ts";
import { deadlineOf } from "./deadline.ts";
import { InvalidRequest } from "./invalid-request.ts";
import { parseRequest } from "./parse-request.ts";
import { respond } from "./respond.ts";
import type { ResponseShape } from "./respond.ts";
import { planChoices, requireChoices } from "./to-engine-request.ts";
import { toChatLogprobs } from "./to-logprobs.ts";
import { UNSUPPORTED_IN_CHAT } from "./unsupported.ts";
import { chatRequest } from "./wire.ts";
import type { ChatRequest } from "./wire.ts";

/** POST /v1/chat/completions */
export async function chatCompletions(context: Context<RouteEnv>, service: Service): Promise<Response> {
  const arrived = service.clock.now();
  const body = await readBody(context.req.raw, service.limits.bodyBytes);
  const fields = parseRequest(body, chatRequest, UNSUPPORTED_IN_CHAT);
  const caller = context.get("caller");
  const model = findModel(service.engine, fields.model, caller);
  context.set("model", model.name);
  const text = requireText(service.texts, model, "a chat");
  requireChoices({ n: fields.n ?? 1, prompts: 1 }, service.limits, caller);
  const tokens = encodeChat(text, toMessages(fields), model.contextLength);
  const plans = planChoices(
    {
      model,
      text,
      caller,
      deadline: deadlineOf(context.req.raw.headers, { timeout: fields.timeout, arrived }),
      fields,
      maxTokens: fields.max_completion_tokens ?? fields.max_tokens ?? null,
      logprobs: alternatives(fields),
    },
    [tokens],
  );
  const shape = shapeOf(fields, text, {
    head: { id: `chatcmpl-${service.newId()}`, created: service.now(), model: model.name },
    choices: plans.length,
    promptTokens: tokens.length,
  });
  return respond(service, { plans, shape, caller, signal: context.req.raw.signal });
}

/** Templates know `system`; `developer` is OpenAI's newer name for it. */
function toMessages(fields: ChatRequest): ChatMessage[] {
  return fields.messages.map(({ role, content }) => ({
    role: role === "developer" ? "system" : role,
    content: typeof content === "string" ? content : content.map((part) => part.text).join(""),
  }));
}

function alternatives(fields: ChatRequest): number | null {
  if (fields.logprobs) return fields.top_logprobs ?? 0;
  if (!fields.top_logprobs) return null;
  throw new InvalidRequest(`"top_logprobs" is ${fields.top_logprobs} without "logprobs": true`, "top_logprobs");
}

function shapeOf(
  fields: ChatRequest,
  text: TextModel,
  { head, choices, promptTokens }: Pick<ResponseShape, "head" | "choices" | "promptTokens">,
): ResponseShape {
  const logprobs = (tokens: Parameters<typeof toChatLogprobs>[0]) =>
    fields.logprobs ? toChatLogprobs(tokens, text.tokenizer) : null;
  const ids = (tokens: readonly { id: number }[]) =>
    fields.return_token_ids ? { token_ids: tokens.map((token) => token.id) } : {};
  return {
    stream: fields.stream ?? false,
    includeUsage: fields.stream_options?.include_usage ?? false,
    head,
    choices,
    promptTokens,
    object: "chat.completion",
    toChoice: ({ index, text: content, tokens, reason }) => ({
      index,
      message: { role: "assistant", content, refusal: null },
      logprobs: logprobs(tokens),
      finish_reason: toFinishReason(reason),
      ...ids(tokens),
    }),
    writer: {
      object: "chat.completion.chunk",
      start: (index) => ({
        index,
        delta: { role: "assistant", content: "", refusal: null },
        logprobs: null,
        finish_reason: null,
      }),
      delta: ({ text: content, tokens }) => ({ delta: { content }, logprobs: logprobs(tokens), ...ids(tokens) }),
      empty: () => ({ delta: {}, logprobs: null }),
    },
  };
}
