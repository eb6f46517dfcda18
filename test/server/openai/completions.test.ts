import type { EngineEvent } from "../../../src/engine/request.ts";
import { expect, test } from "vitest";
import { desk, json, saying, sayingWithoutEnd, testServer } from "../scripted-engine.ts";

const PATH = "/v1/completions";
const QUESTION = { model: "support", prompt: "owner : who holds the lease =>" };
const TOKENS = desk.tokenizer.encode(QUESTION.prompt);
const FIXTURES = "../../../fixtures/openai";

test("an answer at once, sixteen tokens at most unless the request says more", async () => {
  const { post, engine } = testServer(() => saying("eva holds it ."));
  expect(await json(post(PATH, QUESTION))).toEqual({
    id: "cmpl-1",
    object: "text_completion",
    created: 1,
    model: "support",
    choices: [{ index: 0, text: "eva holds it .", logprobs: null, finish_reason: "stop" }],
    usage: { prompt_tokens: TOKENS.length, completion_tokens: 4, total_tokens: TOKENS.length + 4 },
  });
  expect(engine.requests[0]).toMatchObject({ tokens: TOKENS, maxTokens: 16 });
});

test("prompt tokens that were found cached are counted in the usage, whole and streamed", async () => {
  const cached = (): EngineEvent[] =>
    saying("x").map((event) => (event.type === "request-end" ? { ...event, reusedTokens: 2 } : event));
  const { post } = testServer(cached);
  const { usage } = await json(post(PATH, QUESTION));
  expect(usage.prompt_tokens_details).toEqual({ cached_tokens: 2 });
  const streamed = await post(PATH, { ...QUESTION, stream: true, stream_options: { include_usage: true } });
  expect(await streamed.text()).toContain('"prompt_tokens_details":{"cached_tokens":2}');
});

test("the exact bytes of a stream", async () => {
  const { post } = testServer(() => saying("eva holds it ."));
  const response = await post(PATH, { ...QUESTION, stream: true });
  await expect(await response.text()).toMatchFileSnapshot(`${FIXTURES}/completion.sse`);
});

test("the exact bytes of a stream with echo and usage", async () => {
  const { post } = testServer(() => saying(" holds", "length"));
  const response = await post(PATH, { ...QUESTION, echo: true, stream: true, stream_options: { include_usage: true } });
  await expect(await response.text()).toMatchFileSnapshot(`${FIXTURES}/completion-echo-usage.sse`);
});

test.each([
  { kind: "a list of strings", prompt: ["a", "b"], prompts: ["a", "b"].map((text) => desk.tokenizer.encode(text)) },
  { kind: "token ids", prompt: [1, 40, 41], prompts: [[1, 40, 41]] },
  { kind: "lists of token ids", prompt: [[1, 40], [1]], prompts: [[1, 40], [1]] },
])("a prompt as $kind", async ({ prompt, prompts }) => {
  const { post, engine } = testServer(() => saying("x"));
  const { choices, usage } = await json(post(PATH, { ...QUESTION, prompt, n: 2 }));
  expect(engine.requests.map((request) => request.tokens)).toEqual(prompts.flatMap((tokens) => [tokens, tokens]));
  expect(choices.map((choice: { index: number }) => choice.index)).toEqual(
    prompts.flatMap((_, place) => [2 * place, 2 * place + 1]),
  );
  expect(usage.prompt_tokens).toBe(prompts.flat().length);
});

test("echo puts each prompt in front of its answers", async () => {
  const { post } = testServer(() => saying("!"));
  const { choices } = await json(post(PATH, { ...QUESTION, prompt: ["one", "two"], n: 2, echo: true }));
  expect(choices.map((choice: { text: string }) => choice.text)).toEqual(["one!", "one!", "two!", "two!"]);
});

test("logprobs in the older form, with offsets behind the echo's place", async () => {
  const { post } = testServer(() => saying("eva holds"));
  const { choices } = await json(post(PATH, { ...QUESTION, logprobs: 2 }));
  expect(choices[0].logprobs).toEqual({
    tokens: ["eva", " holds"],
    token_logprobs: [-0.5, -0.5],
    top_logprobs: [
      { eva: -0.5, "</s>": -2.25 },
      { " holds": -0.5, "</s>": -2.25 },
    ],
    text_offset: [0, 3],
  });
  const without = await json(post(PATH, { ...QUESTION, logprobs: 0 }));
  expect(without.choices[0].logprobs.top_logprobs).toBeNull();
});

test("tokens that are part of a character have names of their own", async () => {
  const { post } = testServer(() => saying("🦆"));
  const { choices } = await json(post(PATH, { ...QUESTION, logprobs: 1 }));
  expect(choices[0].logprobs.tokens).toEqual(["bytes:\\xf0", "bytes:\\x9f", "bytes:\\xa6", "bytes:\\x86"]);
  expect(choices[0].text).toBe("🦆");
});

test("a model without a tokenizer takes token ids and gives them", async () => {
  const { post } = testServer(() => saying("eva holds", "length"));
  const { choices } = await json(post(PATH, { model: "bare", prompt: [1, 2, 3] }));
  expect(choices).toEqual([
    {
      index: 0,
      text: "",
      logprobs: null,
      token_ids: desk.tokenizer.encode("eva holds", { plain: true }),
      finish_reason: "length",
    },
  ]);
  const streamed = await (await post(PATH, { model: "bare", prompt: [1], stream: true })).text();
  expect(streamed.match(/"token_ids":\[\d+\]/g)).toHaveLength(2);
});

test.each([
  { prompt: "text" },
  { prompt: ["text"] },
  { prompt: [1], stop: "x" },
  { prompt: [1], echo: true },
  { prompt: [1], logprobs: 1 },
])("a model without a tokenizer refuses %j", async (body) => {
  const { post } = testServer(() => saying("x"));
  const response = await post(PATH, { model: "bare", ...body });
  expect(response.status).toBe(400);
  expect(await json(response)).toMatchObject({ error: { code: "tokenizer_missing", type: "invalid_request_error" } });
});

test("a stop string in a stream ends it with its reason", async () => {
  const { post, engine } = testServer(() => sayingWithoutEnd(" eva holds it . and more"));
  const text = await (await post(PATH, { ...QUESTION, stop: ["zzz", " ."], stream: true })).text();
  expect(text).toContain('"finish_reason":"stop"');
  expect(text.match(/"text":"([^"]*)"/g)?.join("")).not.toContain(".");
  expect(engine.cancelled).toBe(1);
});

test("going on after the end token is the engine's business", async () => {
  const { post, engine } = testServer(() => saying("x"));
  await post(PATH, { ...QUESTION, ignore_eos: true });
  expect(engine.requests[0]).toMatchObject({ ignoreEnd: true, stopTokens: [] });
});
