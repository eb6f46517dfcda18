import { expect, test } from "vitest";
import { BlockllmError } from "../../src/support/errors.ts";
import type { EngineEvent } from "../../src/engine/request.ts";
import { delta, ending, json, saying, testServer } from "./scripted-engine.ts";
import { makeTenant } from "./tenants/make-tenant.ts";

test("requests, answers, tokens, times and the engine's own numbers", async () => {
  const { app, post } = testServer(() => saying("eva holds it ."));
  const body = { model: "support", prompt: [1, 40, 41], n: 2 };
  await (await post("/v1/completions", body)).text();
  await post("/v1/completions", { ...body, model: "made-up-by-a-client" });
  const response = await app.request("/metrics");
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n");
  for (const line of [
    'blockllm_requests_total{tenant="",model="support",status="200"} 1',
    'blockllm_requests_total{tenant="",model="",status="404"} 1',
    'blockllm_answers_total{tenant="",model="support",reason="stop"} 2',
    'blockllm_prompt_tokens_total{tenant="",model="support"} 6',
    'blockllm_output_tokens_total{tenant="",model="support"} 8',
    'blockllm_time_to_first_token_seconds_count{tenant="",model="support"} 2',
    'blockllm_time_per_output_token_seconds_count{tenant="",model="support"} 2',
    "blockllm_queued_requests 1",
    "blockllm_running_sequences 2",
    "blockllm_kv_bytes 3",
    "blockllm_kv_limit_bytes 4",
    "blockllm_weight_bytes 5",
    "blockllm_segments 6",
    "blockllm_replayed_tokens 7",
    'blockllm_step_seconds_bucket{le="0.1"} 1',
    'blockllm_step_seconds_bucket{le="+Inf"} 2',
    'blockllm_segment_load_seconds_bucket{le="0.1"} 0',
    "blockllm_segment_load_seconds_sum 0.5",
    "blockllm_segment_load_seconds_count 1",
    "blockllm_step_seconds_sum 0.3",
    "blockllm_step_seconds_count 2",
  ]) {
    expect(lines).toContain(line);
  }
});

test("each tenant's share of each model, and where its answers waited", async () => {
  const script = (): EngineEvent[] => [
    { ...delta(41), waited: { ...WAITED, asideSeconds: 0, preemptions: 0 } },
    { ...ending("stop", 1), waited: WAITED },
  ];
  const tenants = [makeTenant("acme"), makeTenant("root", { operator: true })];
  const { app, post } = testServer(script, { tenants });
  const as = (name: string): RequestInit => ({ headers: { authorization: `Bearer key-of-${name}` } });
  const body = { model: "support", prompt: [1, 40] };
  const answer = await post("/v1/completions", body, as("acme"));
  expect(answer.headers.get("server-timing")).toMatch(
    /^queue;dur=20, load;dur=300, aside;dur=4000;desc="2 times", first;dur=[\d.]+, total;dur=[\d.]+$/,
  );
  const stream = await post("/v1/completions", { ...body, stream: true }, as("acme"));
  expect(stream.headers.get("server-timing")).toMatch(
    /^queue;dur=20, load;dur=300, aside;dur=0;desc="0 times", first;dur=[\d.]+$/,
  );
  await stream.text();
  await post("/v1/completions", body, as("nobody"));
  const lines = (await (await app.request("/metrics", as("root"))).text()).split("\n");
  for (const line of [
    'blockllm_requests_total{tenant="acme",model="support",status="200"} 2',
    'blockllm_requests_total{tenant="",model="",status="401"} 1',
    'blockllm_prompt_tokens_total{tenant="acme",model="support"} 4',
    'blockllm_output_tokens_total{tenant="acme",model="support"} 2',
    'blockllm_queue_seconds_bucket{le="0.01",tenant="acme",model="support"} 0',
    'blockllm_queue_seconds_bucket{le="0.05",tenant="acme",model="support"} 2',
    'blockllm_load_wait_seconds_count{tenant="acme",model="support"} 2',
    'blockllm_preemptions_total{tenant="acme",model="support"} 4',
  ]) {
    expect(lines).toContain(line);
  }
});

const WAITED = { queueSeconds: 0.02, loadSeconds: 0.3, asideSeconds: 4, preemptions: 2 };

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
