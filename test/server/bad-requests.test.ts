import { expect, test } from "vitest";
import { json, saying, testServer } from "./scripted-engine.ts";

const CHAT = "/v1/chat/completions";
const PLAIN = "/v1/completions";
const HELLO = { model: "support", messages: [{ role: "user", content: "hello" }] };
const PROMPT = { model: "support", prompt: "hello" };

test.each([
  {
    path: CHAT,
    body: { ...HELLO, temprature: 1 },
    param: "temprature",
    message: /unknown key "temprature" in the request\. Allowed: .*temperature/,
  },
  { path: CHAT, body: { ...HELLO, temperature: 3 }, param: "temperature", message: /"temperature" is 3: .*<=2/ },
  {
    path: CHAT,
    body: { ...HELLO, temperature: "hot" },
    param: "temperature",
    message: /"temperature" is "hot": expected number/,
  },
  { path: CHAT, body: { ...HELLO, n: 0 }, param: "n", message: /"n" is 0: .*>=1/ },
  { path: CHAT, body: { ...HELLO, n: 65 }, param: "n", message: /"n" is 65: at most 64 answers per request/ },
  {
    path: PLAIN,
    body: { ...PROMPT, prompt: Array(40).fill("a"), n: 2 },
    param: "n",
    message: /40 prompts with "n" 2 make 80 answers/,
  },
  { path: CHAT, body: { ...HELLO, max_tokens: 1.5 }, param: "max_tokens", message: /expected int/ },
  { path: CHAT, body: { ...HELLO, stop: ["a", "b", "c", "d", "e"] }, param: "stop", message: /up to 4 strings/ },
  { path: CHAT, body: { ...HELLO, stop: "" }, param: "stop", message: /"stop" is "": .*>=1 characters/ },
  { path: CHAT, body: { ...HELLO, top_logprobs: 2 }, param: "top_logprobs", message: /without "logprobs": true/ },
  { path: CHAT, body: { ...HELLO, logprobs: true, top_logprobs: 21 }, param: "top_logprobs", message: /<=20/ },
  {
    path: CHAT,
    body: { ...HELLO, stream_options: { usage: true } },
    param: "stream_options.usage",
    message: /unknown key "usage" in "stream_options"/,
  },
  { path: CHAT, body: { model: "support" }, param: "messages", message: /"messages" is missing: expected array/ },
  { path: CHAT, body: { messages: HELLO.messages }, param: "model", message: /"model" is missing: expected string/ },
  { path: CHAT, body: { ...HELLO, messages: [] }, param: "messages", message: /"messages" is \[\]/ },
  {
    path: CHAT,
    body: { ...HELLO, messages: [{ role: "robot", content: "x" }] },
    param: "messages[0].role",
    message: /"messages\[0\]\.role" is "robot"/,
  },
  {
    path: CHAT,
    body: { ...HELLO, messages: [{ role: "tool", tool_call_id: "1", content: "x" }] },
    param: "messages[0].role",
    message: /"tool": expected .*; tool calling is not supported/,
  },
  {
    path: CHAT,
    body: { ...HELLO, messages: [{ role: "assistant", content: "x", tool_calls: [{ id: "1" }] }] },
    param: "messages[0].tool_calls",
    message: /tool calling is not supported/,
  },
  {
    path: CHAT,
    body: { ...HELLO, messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
    param: "messages[0].content",
    message: /other content is not supported/,
  },
  {
    path: CHAT,
    body: { ...HELLO, tools: [{ type: "function" }] },
    param: "tools",
    message: /"tools" asks for tool calling, which is not supported/,
  },
  {
    path: CHAT,
    body: { ...HELLO, response_format: { type: "json_object" } },
    param: "response_format",
    message: /constrained output/,
  },
  { path: CHAT, body: { ...HELLO, logit_bias: { 5: 100 } }, param: "logit_bias", message: /bias on single tokens/ },
  { path: CHAT, body: { ...HELLO, modalities: ["text", "audio"] }, param: "modalities", message: /not supported/ },
  { path: PLAIN, body: { ...PROMPT, suffix: "end" }, param: "suffix", message: /text after the completion/ },
  { path: PLAIN, body: { ...PROMPT, best_of: 3 }, param: "best_of", message: /not supported/ },
  { path: PLAIN, body: { ...PROMPT, echo: true, logprobs: 1 }, param: "echo", message: /prompt's probabilities/ },
  { path: PLAIN, body: { ...PROMPT, prompt: 7 }, param: "prompt", message: /expected a string, a list of strings/ },
  { path: PLAIN, body: { ...PROMPT, prompt: [] }, param: "prompt", message: /"prompt" is \[\]/ },
  { path: PLAIN, body: { ...PROMPT, prompt: [1, -1] }, param: "prompt[1]", message: /"prompt\[1\]" is -1: .*>=0/ },
  {
    path: PLAIN,
    body: { ...PROMPT, prompt: [1, 600] },
    param: "prompt",
    message: /token 600 at place 1 .* has 512 tokens/,
  },
  {
    path: PLAIN,
    body: { ...PROMPT, prompt: [[1], []] },
    param: "prompt[1]",
    message: /"prompt\[1\]" is \[\]: expected a string/,
  },
  { path: PLAIN, body: { ...PROMPT, prompt: ["a", 1] }, param: "prompt[1]", message: /"prompt\[1\]" is 1: expected/ },
  {
    path: PLAIN,
    body: { ...PROMPT, prompt: [[1, 2.5]] },
    param: "prompt[0][1]",
    message: /"prompt\[0\]\[1\]" is 2\.5/,
  },
  { path: PLAIN, body: { model: "support" }, param: "prompt", message: /"prompt" is missing: expected a string/ },
  {
    path: CHAT,
    body: { ...HELLO, messages: [{ role: "user", content: [{ type: "text", text: "a", x: 1 }] }] },
    param: "messages[0].content",
    message: /other content is not supported/,
  },
  { path: CHAT, body: "{", param: null, message: /the request body is not JSON/ },
  { path: CHAT, body: "[]", param: null, message: /not a JSON object/ },
  { path: CHAT, body: "", param: null, message: /not JSON/ },
  { path: CHAT, body: { model: "support", mesages: [] }, param: "mesages", message: /unknown key "mesages"/ },
])("$message", async ({ path, body, param, message }) => {
  const { post, engine } = testServer(() => saying("x"));
  const response = await post(path, body);
  expect(await json(response)).toEqual({
    error: { message: expect.stringMatching(message), type: "invalid_request_error", param, code: "request_invalid" },
  });
  expect(response.status).toBe(400);
  expect(engine.requests).toHaveLength(0);
});

/** Each filled a body of 4 MiB with what took seconds to refuse; now it is counted first. */
test.each([
  { what: "prompts", body: { ...PROMPT, prompt: Array(300_000).fill("a b") }, message: /300000 prompts/ },
  { what: "token ids", body: { ...PROMPT, prompt: Array(1_500_000).fill(1) }, message: /holds 64 tokens/ },
  {
    what: "keys",
    body: { ...PROMPT, ...Object.fromEntries(Array.from({ length: 300 }, (_, key) => [`k${key}`, 1])) },
    message: /has 302 keys/,
  },
  { what: "stop strings", body: { ...PROMPT, stop: Array(1_000_000).fill("") }, message: /up to 4 strings/ },
  { what: "a prompt nested deep", body: nested(1_000_000), message: /"prompt\[0\]\[0\]" is \[\[/ },
])("a body full of $what is refused", async ({ body, message }) => {
  const { post, engine } = testServer(() => saying("x"));
  const response = await post(PLAIN, body);
  expect(response.status).toBe(400);
  expect((await json(response)).error.message).toMatch(message);
  expect(engine.requests).toHaveLength(0);
});

test("a chat of too many messages is refused before its template sees them", async () => {
  const { post } = testServer(() => saying("x"));
  const response = await post(CHAT, { ...HELLO, messages: Array(5000).fill(HELLO.messages[0]) });
  expect(response.status).toBe(400);
  expect((await json(response)).error).toMatchObject({ param: "messages", message: expect.stringMatching(/<=4096/) });
});

function nested(depth: number): string {
  return `{"model": "support", "prompt": ${"[".repeat(depth)}${"]".repeat(depth)}}`;
}

test("what asks for nothing is taken: nulls, empty lists, and keys that change no answer", async () => {
  const { post } = testServer(() => saying("x"));
  const nothing = {
    temperature: null,
    top_p: null,
    n: null,
    stop: null,
    stream: null,
    stream_options: null,
    max_tokens: null,
    seed: null,
    logprobs: null,
    top_logprobs: null,
    user: "u",
    metadata: { a: "b" },
    store: true,
    service_tier: "auto",
    parallel_tool_calls: true,
    safety_identifier: "s",
    prompt_cache_key: "k",
    prompt_cache_retention: "24h",
    tools: [],
    tool_choice: "auto",
    functions: null,
    response_format: { type: "text" },
    logit_bias: {},
    audio: null,
    modalities: ["text"],
    prediction: null,
    reasoning_effort: null,
    verbosity: "medium",
    web_search_options: null,
  };
  expect((await post(CHAT, { ...HELLO, ...nothing })).status).toBe(200);
  expect(
    (await post(PLAIN, { ...PROMPT, suffix: null, best_of: 1, echo: false, logit_bias: null, user: "u" })).status,
  ).toBe(200);
});

test("an over-long prompt is told the numbers", async () => {
  const { post } = testServer(() => saying("x"));
  const response = await post(PLAIN, { ...PROMPT, prompt: Array(60).fill(40), max_tokens: 5 });
  expect(response.status).toBe(400);
  expect((await json(response)).error).toEqual({
    message:
      '"support" holds 64 tokens: the prompt has 60 and the answer may have 5, 65 in all. Ask for at most 4 tokens, or shorten the prompt.',
    type: "invalid_request_error",
    param: null,
    code: "context_length_exceeded",
  });
  const long = await post(CHAT, { ...HELLO, messages: [{ role: "user", content: "hello ".repeat(200) }] });
  expect((await json(long)).error).toMatchObject({
    code: "context_length_exceeded",
    message: expect.stringContaining("Shorten the prompt."),
  });
});

test("an unknown model is told the known ones", async () => {
  const { post } = testServer(() => saying("x"));
  const response = await post(CHAT, { ...HELLO, model: "suport" });
  expect(response.status).toBe(404);
  expect((await json(response)).error).toMatchObject({
    code: "model_not_found",
    message: 'the model "suport" is not served here. Models: support, legal, bare.',
  });
});

test("a model without a chat template sends people to plain prompts", async () => {
  const { post, service } = testServer(() => saying("x"));
  const bare = { ...service.texts.get("support")!, chatTemplate: null };
  const server = testServer(() => saying("x"), { texts: new Map([["support", bare]]) });
  expect((await json(server.post(CHAT, HELLO))).error.message).toBe(
    "the model has no chat template. Send the whole prompt to /v1/completions.",
  );
  expect((await json(post(CHAT, { ...HELLO, model: "bare" }))).error.code).toBe("tokenizer_missing");
});

test("an answer can be sent back with everything that the Python client writes out of it", async () => {
  const { post } = testServer(() => saying("x"));
  const nothing = { refusal: null, annotations: null, audio: null, function_call: null, tool_calls: null };
  const answer = { role: "assistant", content: "hi", ...nothing };
  expect((await post(CHAT, { ...HELLO, messages: [...HELLO.messages, answer, ...HELLO.messages] })).status).toBe(200);
});

test("a body over the limit is refused by what it announces and by what it sends", async () => {
  const { app, post } = testServer(() => saying("x"), { limits: { bodyBytes: 100 } });
  const announced = await post(CHAT, { ...HELLO, user: "x".repeat(100) });
  expect(announced.status).toBe(413);
  expect((await json(announced)).error).toMatchObject({ code: "request_too_large", type: "invalid_request_error" });
  const chunks = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(64)),
  });
  const init = { method: "POST", body: chunks, duplex: "half" as const };
  expect((await app.request(CHAT, init)).status).toBe(413);
});

test("wrong methods and unknown paths get OpenAI's error shape", async () => {
  const { app } = testServer(() => saying("x"));
  const wrong = await app.request(CHAT);
  expect(wrong.status).toBe(405);
  expect(wrong.headers.get("allow")).toBe("POST");
  expect((await json(wrong)).error).toMatchObject({
    code: "method_not_allowed",
    message: expect.stringContaining("Use POST."),
  });
  const unknown = await app.request("/v1/embeddings", { method: "POST" });
  expect(unknown.status).toBe(404);
  expect((await json(unknown)).error).toMatchObject({
    code: "route_not_found",
    message: expect.stringContaining("/v1/models"),
  });
  expect((await app.request("/")).status).toBe(404);
  expect((await app.request("/healthz", { method: "HEAD" })).status).toBe(200);
});

test("our own bugs say nothing to clients and everything to the log", async () => {
  const errors: unknown[] = [];
  const log = { info: () => {}, error: (_: string, error: unknown) => errors.push(error) };
  const { post } = testServer(
    () => {
      throw new TypeError("secret detail");
    },
    { log },
  );
  const response = await post(CHAT, HELLO);
  expect(response.status).toBe(500);
  expect((await json(response)).error).toEqual({
    message: "the server failed; its log says why",
    type: "server_error",
    param: null,
    code: "internal_error",
  });
  expect(errors).toEqual([expect.objectContaining({ message: "secret detail" })]);
});
