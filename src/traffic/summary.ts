import { percentilesOf, quantile, type Percentiles } from "./percentiles.ts";
import type { LoadResult } from "./run-load.ts";
import type { Sample } from "./sample.ts";
import type { Holdings } from "./target.ts";

/** One run of one load on one target, in numbers. The keys are stable JSON. */
export interface RunSummary {
  requests: number;
  /** The time in which requests were sent; rates count what happened within. */
  seconds: number;
  offered_per_second: number;
  requests_per_second: number;
  tokens_per_second: number;
  /** Finished within the scenario's goals; equal to requests_per_second where it has none. */
  good_per_second: number;
  finish_reasons: Record<string, number>;
  /** Got 429 to the last try. */
  refused: number;
  /** Got 429 at least once, and the longest Retry-After. */
  told_to_wait: number;
  retry_after_seconds: number | null;
  timeouts: number;
  errors: Record<string, number>;
  /** Of finished requests, from when they were due to their end. */
  latency_ms: Percentiles | null;
  first_token_ms: Percentiles | null;
  /** Mean of an answer's tokens after its first. */
  token_ms: Percentiles | null;
  /** How late the generator itself sent, worst case. */
  sent_late_ms: number;
  /**
   * All threads of the serving process, the generator's too where it is in the same one. What else the machine does
   * hardly moves it.
   */
  processor_ms_per_token: number | null;
  memory_bytes: number | null;
  /** What the target held when all was over; anything but zeros is a leak. */
  left: Holdings | null;
  /** Latencies at 0, 2, …, 100 % of the finished requests. */
  latency_curve_ms: number[];
}

/** Limits on the latency a user would call good, in milliseconds. */
export interface Goals {
  first_token_ms?: number | undefined;
  token_ms?: number | undefined;
}

export function summarise(
  { samples, seconds, memoryBytes, processorSeconds }: LoadResult,
  goals: Goals,
  left: Holdings | null,
): RunSummary {
  const finished = samples.filter(({ outcome }) => outcome.kind === "finished");
  const within = finished.filter(({ ended }) => ended <= seconds);
  const tokens = samples.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  const latencies = finished.map(latencyOf);
  const sorted = latencies.toSorted((a, b) => a - b);
  return {
    requests: samples.length,
    seconds,
    offered_per_second: samples.length / seconds,
    requests_per_second: within.length / seconds,
    tokens_per_second: samples.reduce((sum, sample) => sum + tokensWithin(sample, seconds), 0) / seconds,
    good_per_second: within.filter((sample) => isGood(sample, goals)).length / seconds,
    finish_reasons: countBy(finished, ({ outcome }) => (outcome.kind === "finished" ? outcome.reason : "")),
    refused: samples.filter(({ outcome }) => outcome.kind === "refused").length,
    told_to_wait: samples.filter(({ refusals }) => refusals > 0).length,
    retry_after_seconds: mostOf(samples.map(({ retryAfterSeconds }) => retryAfterSeconds ?? -1)),
    timeouts: samples.filter(({ outcome }) => outcome.kind === "timeout").length,
    errors: countBy(
      samples.filter(({ outcome }) => outcome.kind === "error"),
      ({ outcome }) => (outcome.kind === "error" ? outcome.message : ""),
    ),
    latency_ms: percentilesOf(latencies),
    first_token_ms: percentilesOf(finished.flatMap((sample) => firstTokenOf(sample) ?? [])),
    token_ms: percentilesOf(finished.flatMap((sample) => perTokenOf(sample) ?? [])),
    sent_late_ms: Math.max(0, ...samples.map(({ due, sent }) => (sent - due) * 1000)),
    processor_ms_per_token: processorSeconds === null || tokens === 0 ? null : (processorSeconds * 1000) / tokens,
    memory_bytes: memoryBytes,
    left,
    latency_curve_ms: sorted.length === 0 ? [] : Array.from({ length: 51 }, (_, at) => quantile(sorted, at / 50)!),
  };
}

/** Milliseconds from when it was due: a target that keeps the generator waiting is not spared the time it cost. */
function latencyOf({ due, ended }: Sample): number {
  return (ended - due) * 1000;
}

function firstTokenOf({ due, first }: Sample): number | null {
  return first === null ? null : (first - due) * 1000;
}

function perTokenOf({ first, ended, completionTokens }: Sample): number | null {
  return first === null || completionTokens < 2 ? null : ((ended - first) * 1000) / (completionTokens - 1);
}

function isGood(sample: Sample, goals: Goals): boolean {
  const first = firstTokenOf(sample);
  return (
    (first ?? 0) <= (goals.first_token_ms ?? Infinity) && (perTokenOf(sample) ?? 0) <= (goals.token_ms ?? Infinity)
  );
}

/** The first token when it came, the others spread evenly until the end. */
function tokensWithin({ first, ended, completionTokens }: Sample, seconds: number): number {
  if (first === null || completionTokens === 0 || first > seconds) return 0;
  const share = ended <= seconds ? 1 : (seconds - first) / (ended - first);
  return 1 + (completionTokens - 1) * share;
}

function countBy<Value>(values: readonly Value[], key: (value: Value) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[key(value)] = (counts[key(value)] ?? 0) + 1;
  return counts;
}

/** null where none is above -1. */
function mostOf(values: readonly number[]): number | null {
  const most = Math.max(-1, ...values);
  return most === -1 ? null : most;
}
