import { describePoint } from "../../traffic/points.ts";
import type { Spread } from "../../traffic/percentiles.ts";
import type { BenchReport, PointReport, PointResult, RatioName } from "../../traffic/report.ts";
import { formatBytes, formatCount } from "./format.ts";
import { type Column, renderTable } from "./table.ts";

export const BENCH_COLUMNS: Column[] = [
  { head: "load" },
  { head: "side" },
  ...["req/s", "tokens/s", "first p50", "first p95", "token p50", "p50", "p95", "p99", "cpu/token", "memory"].map(
    (head): Column => ({ head, align: "right" }),
  ),
  { head: "ended" },
];

/** Medians over the repeats; times in milliseconds. */
export function printBench(report: BenchReport): string {
  const { scenario, machine, sides, saturation } = report;
  const rows = report.points.flatMap(pointRows);
  return [
    `${scenario.name}, ${formatCount(scenario.repeats, "repeat")}, ${machine.cpu}, ${machine.threads} threads, load average ${machine.load_average} before`,
    ...sides.map(
      ({ name, about, models, load_seconds }) =>
        `${name}: ${about}; ${formatCount(models.length, "model")}, loaded in ${load_seconds.median.toFixed(1)} s`,
    ),
    ...(saturation === null
      ? []
      : [`saturation of ${saturation.side}: ${showSpread(saturation.requests_per_second, 2)} requests/s`]),
    "",
    renderTable(BENCH_COLUMNS, rows),
    "",
    "Medians of the repeats. Times in ms from when a request was due: first token, mean of later tokens, whole answer; processor time of all threads per token.",
    ...report.notes,
  ].join("\n");
}

/** One row per side, and one of ratios where there are two. */
export function pointRows(point: PointReport): string[][] {
  const load = describePoint(point.load);
  const rows = point.results.map((result, place) => [place === 0 ? load : "", result.side, ...measuresOf(result)]);
  if (point.ratios === null) return rows;
  const ratio = (name: RatioName): string => showSpread(point.ratios![name], 2);
  const { compared, equal } = point.same_tokens!;
  return [
    ...rows,
    [
      "",
      "ratio",
      ratio("requests_per_second"),
      ratio("tokens_per_second"),
      "",
      ratio("first_token_p95_ms"),
      ratio("token_p50_ms"),
      ratio("latency_p50_ms"),
      ratio("latency_p95_ms"),
      ratio("latency_p99_ms"),
      ratio("processor_ms_per_token"),
      ratio("memory_bytes"),
      compared === 0 ? "" : `same tokens: ${equal} of ${compared}`,
    ],
  ];
}

function measuresOf({ medians, runs }: PointResult): string[] {
  const median = (name: keyof PointResult["medians"], digits: number): string =>
    medians[name]?.median.toFixed(digits) ?? "–";
  return [
    median("requests_per_second", 2),
    median("tokens_per_second", 1),
    median("first_token_p50_ms", 0),
    median("first_token_p95_ms", 0),
    median("token_p50_ms", 1),
    median("latency_p50_ms", 0),
    median("latency_p95_ms", 0),
    median("latency_p99_ms", 0),
    median("processor_ms_per_token", 1),
    medians.memory_bytes ? formatBytes(medians.memory_bytes.median) : "–",
    endings(runs),
  ];
}

/** Over all repeats: reasons, then what went wrong. */
function endings(runs: PointResult["runs"]): string {
  const counts = new Map<string, number>();
  const add = (name: string, count: number): void => {
    if (count > 0) counts.set(name, (counts.get(name) ?? 0) + count);
  };
  for (const { finish_reasons, refused, timeouts, errors, left } of runs) {
    for (const [reason, count] of Object.entries(finish_reasons)) add(reason, count);
    add("429", refused);
    add("timeout", timeouts);
    for (const [message, count] of Object.entries(errors)) add(message, count);
    if (left !== null && left.kvBytes > 0) add("KV bytes left", left.kvBytes);
  }
  return [...counts].map(([name, count]) => `${name} ${count}`).join(", ");
}

function showSpread(spread: Spread | null, digits: number): string {
  if (spread === null) return "–";
  const { median, least, most } = spread;
  if (least === most) return median.toFixed(digits);
  return `${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
}
