import { expect, test } from "vitest";
import { deadlineOf } from "../../../src/server/openai/deadline.ts";
import { BlockllmError } from "../../../src/support/errors.ts";
import { delta, json, saying, testServer } from "../scripted-engine.ts";

const BODY = { model: "support", prompt: "hello" };
const header = (value: string) => ({ headers: { "x-blockllm-deadline-ms": value } });

test("the sooner of key and header counts, from the request's arrival", () => {
  const given = (headers: object, timeout?: number | null) =>
    deadlineOf(new Headers(headers as Record<string, string>), { timeout, arrived: 1000 });
  expect(given({})).toBeNull();
  expect(given({}, null)).toBeNull();
  expect(given({}, 1.5)).toBe(2500);
  expect(given(header("700").headers)).toBe(1700);
  expect(given(header("700").headers, 0.5)).toBe(1500);
});

test.each(["soon", "0", "-5", "1.5", ""])("a header that is no time is a 400: %j", async (value) => {
  const { post } = testServer(() => saying("x"));
  const response = await post("/v1/completions", BODY, header(value));
  expect(response.status).toBe(400);
  expect((await json(response)).error.message).toContain("x-blockllm-deadline-ms");
});

test("the engine is told when time is over", async () => {
  const { post, engine } = testServer(() => saying("x"));
  const before = Date.now();
  await post("/v1/completions", { ...BODY, timeout: 2 });
  await post("/v1/completions", BODY);
  expect(engine.requests[0]!.deadline).toBeGreaterThanOrEqual(before + 2000);
  expect(engine.requests[0]!.deadline).toBeLessThanOrEqual(Date.now() + 2000);
  expect(engine.requests[1]).not.toHaveProperty("deadline");
});

test("without a token in time: 504, and clients are told not to try again", async () => {
  const error = new BlockllmError("deadline_exceeded", "no token was ready");
  const { post } = testServer(() => [
    { type: "request-end", reason: "error", error, promptTokens: 1, completionTokens: 0 },
  ]);
  const response = await post("/v1/completions", { ...BODY, timeout: 1 });
  expect(response.status).toBe(504);
  expect(response.headers.get("x-should-retry")).toBe("false");
  expect((await json(response)).error.code).toBe("deadline_exceeded");
});

test("with tokens: what there is, cut short", async () => {
  const { post } = testServer(() => [
    delta(40),
    { type: "request-end", reason: "deadline", promptTokens: 1, completionTokens: 1 },
  ]);
  const { choices, usage } = await json(post("/v1/completions", { ...BODY, timeout: 1 }));
  expect(choices[0]).toMatchObject({ finish_reason: "length" });
  expect(usage.completion_tokens).toBe(1);
});
