import { expect, test } from "vitest";
import { BlockllmError } from "../../src/support/errors.ts";
import { json, saying, testServer } from "./scripted-engine.ts";

test("requests, answers, tokens, times and the engine's own numbers", async () => {
  const { app, post } = testServer(() => saying("eva holds it ."));
  const body = { model: "support", prompt: [1, 40, 41], n: 2 };
  await (await post("/v1/completions", body)).text();
  await post("/v1/completions", { ...body, model: "made-up-by-a-client" });
  const response = await app.request("/metrics");
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n");
  for (const line of [
    'blockllm_requests_total{model="support",status="200"} 1',
    'blockllm_requests_total{model="",status="404"} 1',
    'blockllm_answers_total{model="support",reason="stop"} 2',
    'blockllm_prompt_tokens_total{model="support"} 6',
    'blockllm_output_tokens_total{model="support"} 8',
    'blockllm_time_to_first_token_seconds_count{model="support"} 2',
    'blockllm_time_per_output_token_seconds_count{model="support"} 2',
    "blockllm_queued_requests 1",
    "blockllm_running_sequences 2",
    "blockllm_kv_bytes 3",
    "blockllm_kv_limit_bytes 4",
    "blockllm_weight_bytes 5",
    "blockllm_segments 6",
    "blockllm_replayed_tokens 7",
    'blockllm_step_seconds_bucket{le="0.1"} 1',
    'blockllm_step_seconds_bucket{le="+Inf"} 2',
    "blockllm_step_seconds_sum 0.3",
    "blockllm_step_seconds_count 2",
  ]) {
    expect(lines).toContain(line);
  }
});

test("health says which models are served, and 503 once the server drains", async () => {
  const { app, service } = testServer(() => saying("x"));
  const healthy = await app.request("/healthz");
  expect(healthy.status).toBe(200);
  expect(await json(healthy)).toEqual({ status: "ok", models: ["support", "legal", "bare"], running: 0 });
  await service.running.drain(0);
  const draining = await app.request("/healthz");
  expect(draining.status).toBe(503);
  expect((await json(draining)).status).toBe("draining");
});

test("health says when the engine has died", async () => {
  const { app, engine } = testServer(() => saying("x"));
  engine.stats = () => Promise.reject(new BlockllmError("engine_failed", "The engine stopped: out of memory"));
  const response = await app.request("/healthz");
  expect(response.status).toBe(503);
  expect(await json(response)).toMatchObject({ status: "failed", reason: "The engine stopped: out of memory" });
});

test("health does not wait for an engine that is busy", async () => {
  const { app, engine } = testServer(() => saying("x"), { limits: { healthMs: 5 } });
  engine.stats = () => new Promise(() => {});
  expect((await app.request("/healthz")).status).toBe(200);
});
