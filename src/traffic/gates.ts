import type { BenchReport } from "./report.ts";

export interface Gate {
  name: "min_ratio" | "max_p95" | "max_errors";
  passed: boolean;
  limit: number;
  /** null: it could not be measured, which does not pass. */
  value: number | null;
  says: string;
}

/** `maxP95` in milliseconds. */
export interface GateLimits {
  minRatio?: number;
  maxP95?: number;
  maxErrors?: number;
}

/** What the user set as limits, held against what was measured. */
export function judge(report: BenchReport, { minRatio, maxP95, maxErrors }: GateLimits): Gate[] {
  const gates: Gate[] = [];
  if (minRatio !== undefined) {
    const value = report.points.at(-1)!.ratios?.tokens_per_second?.median ?? null;
    gates.push({
      name: "min_ratio",
      passed: value !== null && value >= minRatio,
      limit: minRatio,
      value,
      says: `the ratio of tokens/s is ${value?.toFixed(2) ?? "not measured: there is no side to compare with"}, --min-ratio asks for ${minRatio}`,
    });
  }
  if (maxP95 !== undefined) {
    const values = report.points.map(({ results }) => results[0]!.medians.latency_p95_ms?.median ?? Infinity);
    const worst = Math.max(...values);
    gates.push({
      name: "max_p95",
      passed: worst <= maxP95,
      limit: maxP95,
      value: Number.isFinite(worst) ? worst : null,
      says: `p95 latency is ${Number.isFinite(worst) ? `${Math.round(worst)} ms` : "not measured"}, --max-p95 allows ${maxP95} ms`,
    });
  }
  if (maxErrors !== undefined) {
    const value = countUnexplained(report);
    gates.push({
      name: "max_errors",
      passed: value <= maxErrors,
      limit: maxErrors,
      value,
      says: `${value} requests failed without a 429 or were never answered, --max-errors allows ${maxErrors}`,
    });
  }
  return gates;
}

/** Of the side measured, over all runs. */
function countUnexplained({ points }: BenchReport): number {
  const runs = points.flatMap(({ results }) => results[0]!.runs);
  return runs.reduce(
    (sum, { errors, timeouts }) => sum + timeouts + Object.values(errors).reduce((all, count) => all + count, 0),
    0,
  );
}
