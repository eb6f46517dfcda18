import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineRequest } from "../engine/request.ts";
import type { EngineStats } from "../engine/stats.ts";
import { proportionalSetBytes } from "../support/process-memory.ts";
import type { Engine } from "./served-engine.ts";
import type { GenerationObserver } from "./generation.ts";
import { formatHistogram } from "./format-histogram.ts";
import { LabelPairs, type Pair } from "./label-pairs.ts";

const PAIR = ["tenant", "model"] as const;
const WAIT_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60];
const FIRST_TOKEN_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const TOKEN_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** GET /metrics. The engine's numbers are read when they are asked for. */
export interface Metrics extends GenerationObserver {
  /** `model` is "" where the request named none that is served: a client cannot make labels up. */
  countRequest(pair: Pair, status: number): void;
  respond(): Promise<Response>;
}

/** At most `seriesLimit` tenants' models have series of their own. */
export function createMetrics(engine: Pick<Engine, "stats">, seriesLimit: number): Metrics {
  const pairs = new LabelPairs(seriesLimit);
  const pairOf = ({ tenant = "", model }: EngineRequest): Pair => pairs.of({ tenant, model });
  const registry = new Registry();
  const { requests, answers, promptTokens, outputTokens, firstToken, eachToken, queue, load, preemptions } =
    registerAnswerMetrics(registry);
  const reportStats = registerEngineMetrics(registry);

  return {
    countRequest: (pair, status) => requests.inc({ ...pairs.of(pair), status }),
    onStart: (request) => promptTokens.inc(pairOf(request), request.tokens.length),
    onToken: (request) => outputTokens.inc(pairOf(request)),
    onEnd: (request, { reason, firstTokenSeconds, tokenSeconds, waited }) => {
      const pair = pairOf(request);
      answers.inc({ ...pair, reason });
      if (firstTokenSeconds !== null) firstToken.observe(pair, firstTokenSeconds);
      if (tokenSeconds !== null) eachToken.observe(pair, tokenSeconds);
      if (waited === null) return;
      queue.observe(pair, waited.queueSeconds);
      if (waited.loadSeconds > 0) load.observe(pair, waited.loadSeconds);
      if (waited.preemptions > 0) preemptions.inc(pair, waited.preemptions);
    },
    respond: async () => {
      const stats = await engine.stats();
      reportStats(stats);
      const steps = formatHistogram(
        "blockllm_step_seconds",
        "One batch of the engine, until its tokens are out.",
        stats.steps,
      );
      const loads = formatHistogram(
        "blockllm_segment_load_seconds",
        "Loading one segment, each time anew.",
        stats.loads,
      );
      return new Response(`${await registry.metrics()}\n${steps}${loads}`, {
        headers: { "content-type": registry.contentType },
      });
    },
  };
}

function registerAnswerMetrics(registry: Registry) {
  const registers = [registry];
  return {
    requests: new Counter({
      name: "blockllm_requests_total",
      help: "Requests to /v1 by tenant, model and HTTP status; a stream counts with the status it began with.",
      labelNames: [...PAIR, "status"],
      registers,
    }),
    answers: new Counter({
      name: "blockllm_answers_total",
      help: "Finished answers by tenant, model and reason: stop, length, deadline, cancelled, error.",
      labelNames: [...PAIR, "reason"],
      registers,
    }),
    promptTokens: new Counter({
      name: "blockllm_prompt_tokens_total",
      help: "Prompt tokens given to the engine, once per answer.",
      labelNames: PAIR,
      registers,
    }),
    outputTokens: new Counter({
      name: "blockllm_output_tokens_total",
      help: "Tokens generated.",
      labelNames: PAIR,
      registers,
    }),
    firstToken: new Histogram({
      name: "blockllm_time_to_first_token_seconds",
      help: "From handing a request to the engine to its first token.",
      labelNames: PAIR,
      buckets: FIRST_TOKEN_BUCKETS,
      registers,
    }),
    eachToken: new Histogram({
      name: "blockllm_time_per_output_token_seconds",
      help: "Mean time of an answer's tokens after the first.",
      labelNames: PAIR,
      buckets: TOKEN_BUCKETS,
      registers,
    }),
    queue: new Histogram({
      name: "blockllm_queue_seconds",
      help: "What answers waited for their first place in a step.",
      labelNames: PAIR,
      buckets: WAIT_BUCKETS,
      registers,
    }),
    load: new Histogram({
      name: "blockllm_load_wait_seconds",
      help: "What answers waited for segments of their model to be loaded, of those that did.",
      labelNames: PAIR,
      buckets: WAIT_BUCKETS,
      registers,
    }),
    preemptions: new Counter({
      name: "blockllm_preemptions_total",
      help: "How often answers gave way to others for want of memory.",
      labelNames: PAIR,
      registers,
    }),
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
  const laneBatches = gauge(
    "blockllm_lane_batches",
    "Batches that lanes ran since the start, each for some of the requests.",
  );
  const losses = gauge("blockllm_device_losses", "How often a graphics device was lost and opened anew.");
  const process = gauge("blockllm_process_bytes", "Proportional set size of the process; absent where unknown.");
  return (stats) => {
    const processBytes = proportionalSetBytes();
    if (processBytes !== null) process.set(processBytes);
    swapped.set(stats.swappedBytes);
    swaps.set(stats.swaps);
    laneBatches.set(stats.laneBatches);
    losses.set(stats.deviceLosses);
    queued.set(stats.queued);
    running.set(stats.running);
    kvBytes.set(stats.kvBytes);
    kvLimit.set(stats.kvBytesLimit);
    weights.set(stats.weightBytes);
    memoryLimit.set(stats.memoryBytesLimit);
    segments.set(stats.segments);
    loaded.set(stats.loadedSegments);
    unloads.set(stats.unloads);
    replayed.set(stats.replayedTokens);
    prefixBytes.set(stats.prefixBytes);
    reused.set(stats.reusedTokens);
    partly.set(stats.partlyReusedTokens);
    drafted.set(stats.draftedTokens);
    accepted.set(stats.acceptedTokens);
  };
}
