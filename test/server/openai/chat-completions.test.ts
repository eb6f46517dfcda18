import { expect, test } from "vitest";
import type { EngineEvent } from "../../../src/engine/request.ts";
import { Channel } from "../../../src/support/channel.ts";
import { BlockllmError } from "../../../src/support/errors.ts";
import { delta, desk, json, saying, sayingWithoutEnd, testServer } from "../scripted-engine.ts";

const PATH = "/v1/chat/completions";
const QUESTION = { model: "support", messages: [{ role: "user", content: "owner : who holds the lease" }] };
const FIXTURES = "../../../fixtures/openai";

test("an answer at once", async () => {
  const { post, engine } = testServer(() => saying("eva holds it ."));
  const response = await post(PATH, QUESTION);
  expect(response.status).toBe(200);
  expect(await json(response)).toEqual({
    id: "chatcmpl-1",
    object: "chat.completion",
    created: 1,
    model: "support",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "eva holds it .", refusal: null },
        logprobs: null,
        finish_reason: "stop",
      },
    ],
    usage: { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 },
  });
  expect(engine.requests[0]!.tokens).toEqual(desk.tokenizer.encode("owner : who holds the lease =>"));
});

test("what the request leaves out is OpenAI's default, and the answer may fill the context", async () => {
  const { post, engine } = testServer(() => saying("a"));
  await post(PATH, QUESTION);
  const { tokens, maxTokens, sampling, stopTokens, model } = engine.requests[0]!;
  expect(model).toBe("support");
  expect(maxTokens).toBe(64 - tokens.length);
  expect(stopTokens).toEqual([2]);
  expect(sampling).toEqual({
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    repetitionPenalty: 1,
    seed: expect.any(Number),
    logprobs: null,
  });
});

test("the exact bytes of a stream", async () => {
  const { post } = testServer(() => saying("eva holds it ."));
  const response = await post(PATH, { ...QUESTION, stream: true });
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  await expect(await response.text()).toMatchFileSnapshot(`${FIXTURES}/chat.sse`);
});

test("the exact bytes of a stream with usage, logprobs and two choices", async () => {
  const { post } = testServer(() => saying("ok 🦆", "length"));
  const wanted = { stream: true, n: 2, logprobs: true, top_logprobs: 2, stream_options: { include_usage: true } };
  const response = await post(PATH, { ...QUESTION, ...wanted });
  await expect(await response.text()).toMatchFileSnapshot(`${FIXTURES}/chat-logprobs-usage.sse`);
});

test("the exact bytes of a stream that fails", async () => {
  const failure: EngineEvent = {
    type: "request-end",
    reason: "error",
    error: new BlockllmError("engine_failed", "step 7 failed"),
    promptTokens: 9,
    completionTokens: 2,
  };
  const { post } = testServer(() => [...sayingWithoutEnd("eva holds"), failure]);
  const response = await post(PATH, { ...QUESTION, stream: true });
  expect(response.status).toBe(200);
  await expect(await response.text()).toMatchFileSnapshot(`${FIXTURES}/chat-error.sse`);
});

test("an error before the first token keeps its status, streamed or not", async () => {
  const error = new BlockllmError("queue_full", "512 requests wait; the limit is 512", { hint: "Try again later." });
  const failure: EngineEvent = { type: "request-end", reason: "error", error, promptTokens: 9, completionTokens: 0 };
  for (const stream of [false, true]) {
    const { post } = testServer(() => [failure]);
    const response = await post(PATH, { ...QUESTION, stream });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await json(response)).toEqual({
      error: {
        message: "512 requests wait; the limit is 512. Try again later.",
        type: "rate_limit_error",
        param: null,
        code: "queue_full",
      },
    });
  }
});

test("one choice's failure ends the others", async () => {
  const error = new BlockllmError("engine_failed", "step 7 failed");
  const failure: EngineEvent = { type: "request-end", reason: "error", error, promptTokens: 1, completionTokens: 0 };
  let asked = 0;
  const { post, engine } = testServer(() => (asked++ === 0 ? [failure] : sayingWithoutEnd("a")));
  const response = await post(PATH, { ...QUESTION, n: 3 });
  expect(response.status).toBe(500);
  expect(engine.cancelled).toBe(2);
});

test("a stop string cuts the answer, is not shown, and ends the engine's work", async () => {
  const { post, engine } = testServer(() => sayingWithoutEnd("eva holds it . and more"));
  const response = await post(PATH, { ...QUESTION, stop: [" it ."], logprobs: true });
  const { choices, usage } = await json(response);
  expect(choices[0].message.content).toBe("eva holds");
  expect(choices[0].finish_reason).toBe("stop");
  expect(choices[0].logprobs.content.map((entry: { token: string }) => entry.token).join("")).toBe("eva holds");
  expect(usage.completion_tokens).toBe(4);
  expect(engine.cancelled).toBe(1);
});

test("a stop string never shows in a stream, though it spans tokens", async () => {
  const { post } = testServer(() => sayingWithoutEnd("eva holds it . and more"));
  const response = await post(PATH, { ...QUESTION, stop: "it .", stream: true });
  const text = (await response.text()).match(/"content":"([^"]*)"/g)?.join("");
  expect(text).not.toContain("it");
});

test("n choices have seeds of their own, the first the request's", async () => {
  const { post, engine } = testServer(({ sampling }) => saying(`seed ${sampling!.seed! % 7}`));
  const first = await json(post(PATH, { ...QUESTION, n: 3, seed: 11 }));
  const second = await json(post(PATH, { ...QUESTION, n: 3, seed: 11 }));
  expect(first).toEqual(second);
  expect(first.choices.map((choice: { index: number }) => choice.index)).toEqual([0, 1, 2]);
  const seeds = engine.requests.slice(0, 3).map((request) => request.sampling!.seed);
  expect(seeds[0]).toBe(11);
  expect(new Set(seeds).size).toBe(3);
});

test("token ids on request", async () => {
  const { post } = testServer(() => saying("eva holds it ."));
  const { choices } = await json(post(PATH, { ...QUESTION, return_token_ids: true }));
  expect(choices[0].token_ids).toEqual(desk.tokenizer.encode("eva holds it .", { plain: true }));
});

test("content in parts, and the newer name of the system role", async () => {
  const { post, engine } = testServer(() => saying("a"));
  const messages = [
    { role: "developer", content: "owner : " },
    {
      role: "user",
      content: [
        { type: "text", text: "who holds " },
        { type: "text", text: "the lease" },
      ],
    },
    { role: "assistant", content: "", refusal: null, annotations: [] },
  ];
  await post(PATH, { model: "support:latest", messages });
  expect(engine.requests[0]!.tokens).toEqual(desk.tokenizer.encode("owner : who holds the lease =>"));
});

test("a client that leaves cancels all choices", async () => {
  const { post, engine, service } = testServer(() => sayingWithoutEnd("eva holds"));
  const response = await post(PATH, { ...QUESTION, n: 3, stream: true });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  expect(engine.cancelled).toBe(3);
  await service.running.drain(1000);
  expect(service.running.count).toBe(0);
});

test("a client that leaves while its answer is not streamed cancels it too", async () => {
  const { post, engine } = testServer(() => sayingWithoutEnd("eva holds"));
  const leaving = new AbortController();
  const response = post(PATH, { ...QUESTION, n: 2 }, { signal: leaving.signal });
  await new Promise((resolve) => setTimeout(resolve, 20));
  leaving.abort();
  expect((await response).status).toBe(499);
  expect(engine.cancelled).toBe(2);
});

test("every answer ends with exactly one finish reason", async () => {
  const { post } = testServer(() => [delta(40), ...saying("x", "length")]);
  const text = await (await post(PATH, { ...QUESTION, stream: true, n: 4 })).text();
  const reasons = text.match(/"finish_reason":"\w+"/g);
  expect(reasons).toEqual(Array<string>(4).fill('"finish_reason":"length"'));
});

test("an error that comes when the client has long left ends nothing else", async () => {
  const { post, engine } = testServer(() => [], { limits: { heartbeatMs: 1 } });
  const events = new Channel<EngineEvent>();
  engine.submit = () => ({ events, cancel: () => {} });
  const response = await post(PATH, { ...QUESTION, stream: true });
  await response.body!.cancel();
  events.push({
    type: "request-end",
    reason: "error",
    error: new BlockllmError("engine_failed", "late"),
    promptTokens: 1,
    completionTokens: 0,
  });
  // An unhandled rejection would fail the run.
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(response.status).toBe(200);
});
