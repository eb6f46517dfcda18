import type { ModelDrift, RefusedPair } from "../../engine/evaluate/equivalent-report.ts";
import type { Interval } from "../../engine/evaluate/score-interval.ts";
import type { Dedupe } from "../commands/dedupe.ts";
import { formatBytes, formatCount, formatNumber, formatPercent } from "./format.ts";
import { renderTable } from "./table.ts";

/** Lines about blocks that behave alike: what may merge, and what that costs each model. */
export function printEquivalent({ equivalent, tiers, applied }: Dedupe): string[] {
  const { unavailable } = tiers.equivalent;
  if (unavailable !== undefined) return ["", `blocks that behave alike were not looked for: ${unavailable}`];
  if (equivalent === undefined) return [];
  const { tier, pairs, refused, models, left_out, measured, compared } = equivalent;
  const { max_kl, min_top1 } = equivalent.budget;
  const limits = [
    ...(max_kl === undefined ? [] : [`mean KL at most ${formatNumber(max_kl)}`]),
    ...(min_top1 === undefined ? [] : [`same likeliest token at ${formatPercent(min_top1)} of positions`]),
  ].join(", ");
  const summary =
    limits === ""
      ? "nothing is merged without a budget: --max-kl or --min-top1 gives one"
      : `${formatCount(tier.blocks, "block")} ${applied ? "gave" : "could give"} way to others that behave alike (${limits}): ${formatBytes(tier.saved_bytes)}`;
  return [
    "",
    `equivalent: outputs of ${formatCount(compared, "couple")} of blocks compared, ${measured} run through the models`,
    ...(pairs.length === 0 ? [] : ["", printPairs(pairs)]),
    ...(pairs.length > 0 || refused.length === 0 ? [] : ["", printPairs(refused.slice(0, MOST_SHOWN))]),
    ...(models.length === 0 ? [] : ["", printModels(models)]),
    "",
    summary,
    ...models.flatMap(describeLoss),
    ...models.filter(({ repeated_prompts }) => repeated_prompts > 0).map(describeRepeated),
    ...left_out.map(({ model, reason }) => `${model} keeps its blocks: ${reason}`),
  ];
}

function describeRepeated({ model, repeated_prompts }: ModelDrift): string {
  return `${model} was asked each question once: ${formatCount(repeated_prompts, "line")} repeat another`;
}

/** Only where chance does not explain it. */
function describeLoss({ model, accuracy }: ModelDrift): string[] {
  if (accuracy === null || accuracy.difference_interval[1] >= 0) return [];
  const lost = formatPercent(accuracy.before - accuracy.after);
  return [`${model} gives ${lost} fewer right answers: too many for chance; a smaller budget spares it`];
}

/** Of what was measured and not merged; `--json` has more. */
const MOST_SHOWN = 10;

function printPairs(pairs: (Dedupe["equivalent"] & object)["pairs"] | RefusedPair[]): string {
  const refused = pairs.some((pair) => "reason" in pair);
  return renderTable(
    [
      { head: "block" },
      { head: "of" },
      { head: "gives way to" },
      { head: "weight cosine", align: "right" },
      { head: "output cosine", align: "right" },
      { head: "KL alone", align: "right" },
      { head: "same token", align: "right" },
      { head: "saves", align: "right" },
      ...(refused ? [{ head: "why not" }] : []),
    ],
    pairs.map((pair) => [
      pair.layer === null ? pair.kind : `${pair.kind} ${pair.layer}`,
      pair.models.join(", "),
      pair.a,
      formatNumber(pair.weight_cosine),
      formatNumber(pair.output_cosine),
      formatNumber(pair.kl),
      formatPercent(pair.top1),
      formatBytes(pair.saved_bytes),
      ...("reason" in pair ? [pair.reason] : []),
    ]),
  );
}

/** All on prompts that merges were not chosen by. */
function printModels(models: ModelDrift[]): string {
  return renderTable(
    [
      { head: "model" },
      { head: "merged", align: "right" },
      { head: "held-out prompts", align: "right" },
      { head: "KL", align: "right" },
      { head: "in answers", align: "right" },
      { head: "worst", align: "right" },
      { head: "same token", align: "right" },
      { head: "right answers before", align: "right" },
      { head: "after (95 %)", align: "right" },
      { head: "difference (95 %)", align: "right" },
    ],
    models.map(({ model, merged_blocks, held_out, accuracy }) => [
      model,
      merged_blocks,
      held_out.prompts,
      formatNumber(held_out.kl),
      formatNumber(held_out.kl_answers),
      formatNumber(held_out.kl_worst),
      formatPercent(held_out.top1),
      accuracy === null ? "" : formatPercent(accuracy.before),
      accuracy === null ? "" : `${formatPercent(accuracy.after)} (${showInterval(accuracy.after_interval)})`,
      accuracy === null ? "" : showInterval(accuracy.difference_interval, "+"),
    ]),
  );
}

function showInterval([low, high]: Interval, sign = ""): string {
  const show = (share: number): string => `${share > 0 ? sign : ""}${(share * 100).toFixed(1)}`;
  return `${show(low)} to ${show(high)}`;
}
