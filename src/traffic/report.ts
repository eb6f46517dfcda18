import type { Spread } from "./percentiles.ts";
import type { Scenario } from "./scenario.ts";
import type { RunSummary } from "./summary.ts";

/** What `bench` measured. The keys are stable JSON. */
export interface BenchReport {
  scenario: Scenario;
  machine: Machine;
  sides: SideReport[];
  /** What the loads given as shares refer to. */
  saturation: { side: string; requests_per_second: Spread } | null;
  points: PointReport[];
  /** What a reader must know to judge the numbers. */
  notes: string[];
}

export interface Machine {
  cpu: string;
  threads: number;
  memory_gib: number;
  node: string;
  /** Processes that wanted to run in the minute before: above 0 the machine had other things to do. */
  load_average: number;
}

export interface SideReport {
  name: string;
  about: string;
  models: string[];
  load_seconds: Spread;
}

/** One load, on every side. */
export interface PointReport {
  load: PointLoad;
  results: PointResult[];
  /** First side / second side, repeat by repeat; null with one side. */
  ratios: Record<RatioName, Spread | null> | null;
  /** Requests that both sides finished and that told their tokens, and those of them with equal tokens. */
  same_tokens: { compared: number; equal: number } | null;
}

export type PointLoad =
  | { kind: "clients"; clients: number }
  | { kind: "rate"; per_second: number }
  | { kind: "share"; share: number }
  | { kind: "trace"; speed: number };

export interface PointResult {
  side: string;
  /** Over the repeats. */
  medians: Record<MeasureName, Spread | null>;
  runs: RunSummary[];
}

export const RATIOS = [
  "tokens_per_second",
  "requests_per_second",
  "latency_p50_ms",
  "latency_p95_ms",
  "latency_p99_ms",
  "first_token_p95_ms",
  "token_p50_ms",
  "processor_ms_per_token",
  "memory_bytes",
] as const;
export type RatioName = (typeof RATIOS)[number];

export const MEASURES = [...RATIOS, "first_token_p50_ms", "token_p95_ms", "good_per_second"] as const;
export type MeasureName = (typeof MEASURES)[number];

export function measureOf(run: RunSummary, name: MeasureName): number | null {
  switch (name) {
    case "latency_p50_ms":
      return run.latency_ms?.p50 ?? null;
    case "latency_p95_ms":
      return run.latency_ms?.p95 ?? null;
    case "latency_p99_ms":
      return run.latency_ms?.p99 ?? null;
    case "first_token_p50_ms":
      return run.first_token_ms?.p50 ?? null;
    case "first_token_p95_ms":
      return run.first_token_ms?.p95 ?? null;
    case "token_p50_ms":
      return run.token_ms?.p50 ?? null;
    case "token_p95_ms":
      return run.token_ms?.p95 ?? null;
    case "tokens_per_second":
    case "requests_per_second":
    case "good_per_second":
    case "processor_ms_per_token":
    case "memory_bytes":
      return run[name];
  }
}
