import OpenAI, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from "openai";
import { makeTenant } from "./tenants/make-tenant.ts";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EngineEvent, EngineRequest } from "../../src/engine/request.ts";
import { startServer } from "../../src/server/server.ts";
import type { RunningServer } from "../../src/server/server.ts";
import { BlockllmError } from "../../src/support/errors.ts";
import { desk, saying, sayingWithoutEnd, ScriptedEngine } from "./scripted-engine.ts";

/** The official client against the real server on a real port. */
const ANSWER = "eva holds it .";
const PROMPT = "owner : who holds the lease =>";
const MESSAGES = [{ role: "user" as const, content: "owner : who holds the lease" }];
let script: (request: EngineRequest) => EngineEvent[];
let engine: ScriptedEngine;
let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  engine = new ScriptedEngine((request) => script(request));
  const tenants = [makeTenant("acme", { models: ["support", "bare"] })];
  server = await startServer({ engine, texts: new Map([["support", desk]]), host: "127.0.0.1", port: 0, tenants });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "key-of-acme", maxRetries: 0 });
});

afterAll(() => server.close());

test("models", async () => {
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  expect(ids).toEqual(["support", "bare"]);
  expect((await client.models.retrieve("support")).object).toBe("model");
});

test("chat, at once", async () => {
  script = () => saying(ANSWER);
  const chat = await client.chat.completions.create({ model: "support", messages: MESSAGES });
  expect(chat.id).toMatch(/^chatcmpl-[0-9a-f]{24}$/);
  expect(chat.choices[0]).toMatchObject({ finish_reason: "stop", message: { role: "assistant", content: ANSWER } });
  expect(chat.usage).toEqual({ prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 });
});

test("chat, streamed, with usage", async () => {
  script = () => saying(ANSWER);
  const stream = await client.chat.completions.create({
    model: "support",
    messages: MESSAGES,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  const reasons: (string | null)[] = [];
  let usage;
  for await (const chunk of stream) {
    expect(chunk.object).toBe("chat.completion.chunk");
    text += chunk.choices[0]?.delta.content ?? "";
    if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
    usage = chunk.usage ?? usage;
  }
  expect(text).toBe(ANSWER);
  expect(reasons).toEqual(["stop"]);
  expect(usage).toEqual({ prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 });
});

test("chat, streamed, put together by the client's own helper", async () => {
  script = () => saying(ANSWER);
  const chat = await client.chat.completions
    .stream({ model: "support", messages: MESSAGES, n: 2, logprobs: true, top_logprobs: 2 })
    .finalChatCompletion();
  expect(chat.choices.map((choice) => choice.message.content)).toEqual([ANSWER, ANSWER]);
  expect(chat.choices[1]!.logprobs!.content!.map((entry) => entry.token).join("")).toBe(ANSWER);
});

test("logprobs", async () => {
  script = () => saying(ANSWER);
  const chat = await client.chat.completions.create({
    model: "support",
    messages: MESSAGES,
    logprobs: true,
    top_logprobs: 2,
  });
  const [first] = chat.choices[0]!.logprobs!.content!;
  expect(first).toEqual({
    token: "eva",
    bytes: [101, 118, 97],
    logprob: -0.5,
    top_logprobs: [
      { token: "eva", bytes: [101, 118, 97], logprob: -0.5 },
      { token: "</s>", bytes: [60, 47, 115, 62], logprob: -2.25 },
    ],
  });
});

test("completions, at once and streamed, with n and stop", async () => {
  script = () => saying(`${ANSWER} and more`);
  const question = { model: "support", prompt: PROMPT, n: 2, stop: " and", max_tokens: 20 };
  const whole = await client.completions.create(question);
  expect(whole.choices.map((choice) => choice.text)).toEqual([ANSWER, ANSWER]);
  const texts = ["", ""];
  for await (const chunk of await client.completions.create({ ...question, stream: true })) {
    for (const choice of chunk.choices) texts[choice.index] += choice.text;
  }
  expect(texts).toEqual([ANSWER, ANSWER]);
});

test("the client's n-best helper of old: lists of prompts", async () => {
  script = ({ tokens }) => saying(`has ${tokens.length}`);
  const { choices } = await client.completions.create({ model: "support", prompt: [[1], [1, 40, 41]] });
  expect(choices.map((choice) => choice.text)).toEqual(["has 1", "has 3"]);
});

test("errors are the client's own classes, with code and param", async () => {
  script = () => saying(ANSWER);
  const chat = (body: object) => client.chat.completions.create({ model: "support", messages: MESSAGES, ...body });
  await expect(chat({ temperature: 9 })).rejects.toBeInstanceOf(BadRequestError);
  await expect(chat({ temperature: 9 })).rejects.toMatchObject({
    status: 400,
    code: "request_invalid",
    param: "temperature",
  });
  await expect(chat({ tools: [{ type: "function", function: { name: "f" } }] })).rejects.toMatchObject({
    param: "tools",
  });
  await expect(chat({ max_tokens: 1000 })).rejects.toMatchObject({ status: 400, code: "context_length_exceeded" });
  await expect(chat({ model: "legal" })).rejects.toBeInstanceOf(NotFoundError);
  await expect(client.embeddings.create({ model: "support", input: "x" })).rejects.toBeInstanceOf(NotFoundError);
  const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "guess", maxRetries: 0 });
  await expect(stranger.models.list()).rejects.toBeInstanceOf(AuthenticationError);
});

test("a full queue and a failed step keep their classes", async () => {
  script = () => failing(new BlockllmError("queue_full", "512 requests wait; the limit is 512"));
  await expect(client.completions.create({ model: "support", prompt: PROMPT })).rejects.toBeInstanceOf(RateLimitError);
  script = () => failing(new BlockllmError("engine_failed", "step 7 failed"));
  await expect(client.completions.create({ model: "support", prompt: PROMPT })).rejects.toBeInstanceOf(
    InternalServerError,
  );
});

test("an error in the middle of a stream is thrown by the client", async () => {
  const error = new BlockllmError("engine_failed", "step 7 failed");
  script = () => [...sayingWithoutEnd("eva"), ...failing(error)];
  const stream = await client.chat.completions.create({ model: "support", messages: MESSAGES, stream: true });
  const read = async () => {
    for await (const chunk of stream) expect(chunk.choices).toHaveLength(1);
  };
  await expect(read()).rejects.toBeInstanceOf(APIError);
});

test("aborting a stream cancels the engine's work", async () => {
  script = () => sayingWithoutEnd("eva holds");
  const before = engine.cancelled;
  const stream = await client.chat.completions.create({ model: "support", messages: MESSAGES, stream: true });
  for await (const chunk of stream) if (chunk.choices[0]!.delta.content) break;
  while (engine.cancelled === before) await new Promise((resolve) => setTimeout(resolve, 2));
  expect(engine.cancelled).toBe(before + 1);
});

function failing(error: BlockllmError): EngineEvent[] {
  return [{ type: "request-end", reason: "error", error, promptTokens: 1, completionTokens: 0 }];
}
