import type { DifferenceTier } from "../../store/find-differences.ts";
import type { DifferentPair, LargeTensor, TieredReport } from "../../store/sharing-tiers.ts";
import type { Dedupe } from "../commands/dedupe.ts";
import { formatBytes, formatCount, formatNumber, formatPercent } from "./format.ts";
import { renderTable } from "./table.ts";

const NAMES: Record<DifferenceTier, string> = { lowrank: "low rank", residual: "lossless residual" };

/** Lines below the sharing report; none where no block is a difference to another. */
export function printTiers(
  report: Omit<TieredReport, "pairs"> & Pick<Dedupe, "pairs" | "applied" | "undone">,
): string[] {
  const { unavailable } = report.tiers.residual;
  const done = describeTiers(report.done, "saved");
  const begin = done.length === 0 ? [] : ["", ...done];
  const notes = [
    ...(unavailable === undefined ? [] : ["", `lossless residuals were not measured: ${unavailable}`]),
    ...(report.too_large.length === 0 ? [] : ["", ...report.too_large.map(describeLarge)]),
  ];
  const pairs = report.pairs.filter((pair) => "tensors" in pair);
  if (pairs.length === 0) return [...begin, ...notes];
  return [
    ...begin,
    "",
    printModelPairs(pairs),
    "",
    ...describeTiers(possible(report), "would save"),
    `with all of it, ${formatBytes(report.reachable_bytes)} would be stored (${formatPercent(1 - report.reachable_bytes / report.logical_bytes)} saved), ` +
      `ratio ${report.reachable_ratio.toFixed(2)}${report.applied || report.undone ? "" : "; nothing has been rewritten"}`,
    ...notes,
  ];
}

type Tiers = TieredReport["done"];

/** What is not done yet. */
function possible({ tiers, done }: Pick<TieredReport, "tiers" | "done">): Tiers {
  const left = (tier: DifferenceTier): Tiers[DifferenceTier] => ({
    blocks: tiers[tier].blocks - done[tier].blocks,
    saved_bytes: tiers[tier].saved_bytes - done[tier].saved_bytes,
  });
  return { lowrank: left("lowrank"), residual: left("residual") };
}

function describeTiers({ lowrank, residual }: Tiers, saves: string): string[] {
  const describe = (name: string, { blocks, saved_bytes }: Tiers[DifferenceTier]): string[] =>
    blocks === 0 ? [] : [`${name.replace("#", formatCount(blocks, "block"))} ${saves} ${formatBytes(saved_bytes)}`];
  return [...describe(`${NAMES.lowrank}: # as factors`, lowrank), ...describe(`${NAMES.residual}: #`, residual)];
}

function describeLarge({ model, kind, layer, name, bytes }: LargeTensor): string {
  const place = layer === null ? kind : `${kind} ${layer}`;
  return `${name} of ${model}'s ${place} was compared, but not looked into for a rank or a residual: ${formatBytes(bytes)} are too many`;
}

/** One row per couple of models and tier: every block of an adapter has the same rank. */
function printModelPairs(pairs: DifferentPair[]): string {
  const rows = new Map<string, DifferentPair[]>();
  for (const pair of pairs) {
    const key = [pair.b, pair.a, pair.tier].join(" ");
    rows.set(key, [...(rows.get(key) ?? []), pair]);
  }
  return renderTable(
    [
      { head: "model" },
      { head: "as a difference to" },
      { head: "blocks", align: "right" },
      { head: "how" },
      { head: "relative difference", align: "right" },
      { head: "error", align: "right" },
      { head: "saves", align: "right" },
    ],
    Array.from(rows.values(), (row) => [
      row[0]!.b,
      row[0]!.a,
      row.length,
      describeTier(row),
      spread(row.map(({ relative_delta }) => relative_delta)),
      formatNumber(Math.max(...row.map(({ residual_error }) => residual_error?.relative ?? 0))),
      formatBytes(row.reduce((sum, { saved_bytes }) => sum + saved_bytes, 0)),
    ]),
  );
}

function describeTier(row: DifferentPair[]): string {
  const [{ tier }] = row as [DifferentPair];
  const ratios = row.flatMap(({ residual_ratio }) => residual_ratio ?? []);
  const ranks = row.flatMap(({ rank }) => rank ?? []);
  if (tier === "lowrank") return `${NAMES[tier]} ${spread(ranks)}`;
  const rank = ranks.length === row.length ? ` (a table by rank ${spread(ranks)})` : "";
  return `${NAMES[tier]}, ratio ${spread(ratios)}${rank}`;
}

function spread(values: number[]): string {
  const [least, most] = [formatNumber(Math.min(...values)), formatNumber(Math.max(...values))];
  return least === most ? least : `${least} to ${most}`;
}
