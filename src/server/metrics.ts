import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineStats } from "../engine/stats.ts";
import { proportionalSetBytes } from "../support/process-memory.ts";
import type { Engine } from "./served-engine.ts";
import type { GenerationObserver } from "./generation.ts";
import { formatHistogram } from "./format-histogram.ts";

const FIRST_TOKEN_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const TOKEN_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** GET /metrics. The engine's numbers are read when they are asked for. */
export interface Metrics extends GenerationObserver {
  /** `model` is "" where the request named none that is served: a client cannot make labels up. */
  countRequest(model: string, status: number): void;
  respond(): Promise<Response>;
}

export function createMetrics(engine: Pick<Engine, "stats">): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const requests = new Counter({
    name: "blockllm_requests_total",
    help: "Requests to /v1 by model and HTTP status; a stream counts with the status it began with.",
    labelNames: ["model", "status"],
    registers,
  });
  const answers = new Counter({
    name: "blockllm_answers_total",
    help: "Finished answers by model and reason: stop, length, deadline, cancelled, error.",
    labelNames: ["model", "reason"],
    registers,
  });
  const promptTokens = new Counter({
    name: "blockllm_prompt_tokens_total",
    help: "Prompt tokens given to the engine, once per answer.",
    labelNames: ["model"],
    registers,
  });
  const outputTokens = new Counter({
    name: "blockllm_output_tokens_total",
    help: "Tokens generated.",
    labelNames: ["model"],
    registers,
  });
  const firstToken = new Histogram({
    name: "blockllm_time_to_first_token_seconds",
    help: "From handing a request to the engine to its first token.",
    labelNames: ["model"],
    buckets: FIRST_TOKEN_BUCKETS,
    registers,
  });
  const eachToken = new Histogram({
    name: "blockllm_time_per_output_token_seconds",
    help: "Mean time of an answer's tokens after the first.",
    labelNames: ["model"],
    buckets: TOKEN_BUCKETS,
    registers,
  });
  const reportStats = registerEngineMetrics(registry);

  return {
    countRequest: (model, status) => requests.inc({ model, status }),
    onStart: (model, tokens) => promptTokens.inc({ model }, tokens),
    onToken: (model) => outputTokens.inc({ model }),
    onEnd: (model, { reason, firstTokenSeconds, tokenSeconds }) => {
      answers.inc({ model, reason });
      if (firstTokenSeconds !== null) firstToken.observe({ model }, firstTokenSeconds);
      if (tokenSeconds !== null) eachToken.observe({ model }, tokenSeconds);
    },
    respond: async () => {
      const stats = await engine.stats();
      reportStats(stats);
      const { count, seconds: sum, buckets } = stats.steps;
      const steps = formatHistogram("blockllm_step_seconds", "One step of the engine.", { count, sum, buckets });
      return new Response(`${await registry.metrics()}\n${steps}`, {
        headers: { "content-type": registry.contentType },
      });
    },
  };
}

function registerEngineMetrics(registry: Registry): (stats: EngineStats) => void {
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers: [registry] });
  const queued = gauge("blockllm_queued_requests", "Requests that wait for their first step.");
  const running = gauge("blockllm_running_sequences", "Sequences that have cached keys and values.");
  const kvBytes = gauge("blockllm_kv_bytes", "Memory claimed for cached keys and values.");
  const kvLimit = gauge("blockllm_kv_limit_bytes", "What may be claimed.");
  const memoryLimit = gauge("blockllm_memory_limit_bytes", "For weights, activations, keys and values together.");
  const weights = gauge("blockllm_weight_bytes", "What loaded segments take, the memory they compute in included.");
  const segments = gauge("blockllm_segments", "Runtime sessions that the models share, loaded or not.");
  const loaded = gauge("blockllm_loaded_segments", "Segments that are loaded now.");
  const loads = gauge("blockllm_segment_loads", "Segments loaded since the start, each time anew.");
  const loadSeconds = gauge("blockllm_segment_load_seconds", "Time spent on that.");
  const unloads = gauge("blockllm_segment_unloads", "Segments unloaded because others needed the memory.");
  const replayed = gauge("blockllm_replayed_tokens", "Tokens computed again after a sequence had to yield its memory.");
  const prefixBytes = gauge("blockllm_prefix_bytes", "Memory claimed for prompt prefixes kept for later requests.");
  const reused = gauge("blockllm_prefix_hit_tokens", "Prompt tokens found kept from earlier prompts.");
  const partly = gauge(
    "blockllm_prefix_partial_hit_tokens",
    "Prompt tokens whose first layers were found kept, from models that are alike up to there.",
  );
  const drafted = gauge("blockllm_drafted_tokens", "Tokens guessed ahead of the model, to be verified many at once.");
  const accepted = gauge("blockllm_accepted_tokens", "Drafted tokens that the model would have given.");
  const swapped = gauge("blockllm_swapped_bytes", "Keys and values on disk, of sequences that gave way to others.");
  const swaps = gauge("blockllm_swaps", "How often a sequence was put there since the start.");
  const process = gauge("blockllm_process_bytes", "Proportional set size of the process; absent where unknown.");
  return (stats) => {
    const processBytes = proportionalSetBytes();
    if (processBytes !== null) process.set(processBytes);
    swapped.set(stats.swappedBytes);
    swaps.set(stats.swaps);
    queued.set(stats.queued);
    running.set(stats.running);
    kvBytes.set(stats.kvBytes);
    kvLimit.set(stats.kvBytesLimit);
    weights.set(stats.weightBytes);
    memoryLimit.set(stats.memoryBytesLimit);
    segments.set(stats.segments);
    loaded.set(stats.loadedSegments);
    loads.set(stats.loads);
    loadSeconds.set(stats.loadSeconds);
    unloads.set(stats.unloads);
    replayed.set(stats.replayedTokens);
    prefixBytes.set(stats.prefixBytes);
    reused.set(stats.reusedTokens);
    partly.set(stats.partlyReusedTokens);
    drafted.set(stats.draftedTokens);
    accepted.set(stats.acceptedTokens);
  };
}
