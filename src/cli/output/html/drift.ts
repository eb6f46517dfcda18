import type { AnswerAccuracy } from "../../../engine/evaluate/answer-accuracy.ts";
import type { EquivalentReport, ModelDrift } from "../../../engine/evaluate/equivalent-report.ts";
import type { Dedupe } from "../../commands/dedupe.ts";
import { formatCount, formatNumber, formatPercent } from "../format.ts";
import { html, type Markup } from "./markup.ts";
import { scrollingTable } from "./table.ts";

/** What each model's answers become where blocks give way to others that behave alike; nothing where nobody asked. */
export function renderDrift({ equivalent, applied, tiers }: Dedupe): Markup | null {
  const { unavailable } = tiers.equivalent;
  if (equivalent === undefined) {
    if (unavailable === undefined) return null;
    return section("Blocks that behave alike", html`<p class="note">They were not looked for: ${unavailable}.</p>`);
  }
  const { models, calibration, compared, measured, left_out } = equivalent;
  const merged = models.filter(({ merged_blocks }) => merged_blocks > 0);
  return section(
    applied ? "What merging blocks that behave alike has cost" : "What merging blocks that behave alike would cost",
    html`<p class="note">
        ${formatCount(compared, "couple")} of blocks compared, ${measured} run in each other's place on
        ${formatCount(calibration.lines, "prompt")}. ${budgetOf(equivalent)} Every number is from prompts that had no
        part in choosing.
      </p>
      ${merged.length === 0 ? html`<p>No block may give way within the budget.</p>` : worst(merged)}
      ${models.length > 0 && table(models)}
      ${left_out.length > 0 && html`<p class="note">Not asked, and so left as they are: ${listLeftOut(left_out)}.</p>`}`,
  );
}

function section(title: string, content: Markup): Markup {
  return html`<section id="drift">
    <h2>${title}</h2>
    ${content}
  </section>`;
}

function budgetOf({ budget }: EquivalentReport): string {
  const limits = [
    ...(budget.max_kl === undefined ? [] : [`a mean KL divergence of at most ${formatNumber(budget.max_kl)}`]),
    ...(budget.min_top1 === undefined
      ? []
      : [`the same likeliest token at ${formatPercent(budget.min_top1)} of positions`]),
  ];
  return limits.length === 0 ? "Without a budget nothing is merged." : `The budget is ${limits.join(" and ")}.`;
}

/** In words, for somebody who reads no table: which model loses most right answers, and how sure that is. */
function worst(merged: ModelDrift[]): Markup {
  const asked = merged.flatMap(({ model, accuracy }) => (accuracy === null ? [] : [{ model, accuracy }]));
  const [most] = asked.toSorted((a, b) => lossOf(b.accuracy) - lossOf(a.accuracy));
  if (most === undefined) return html`<p>No right answers were given, so none were counted.</p>`;
  const { before, after, difference_interval } = most.accuracy;
  if (after >= before) return html`<p>No model gives fewer right answers than before.</p>`;
  const [low, high] = difference_interval.map((share) => (100 * share).toFixed(1));
  return html`<p>
    <b>${most.model}</b> loses most: ${formatPercent(before)} right answers before, ${formatPercent(after)} after. With
    95 % confidence the change lies between ${low!} and ${high!} points.
  </p>`;
}

function lossOf({ before, after }: AnswerAccuracy): number {
  return before - after;
}

function table(models: ModelDrift[]): Markup {
  const heads = ["model", "merged blocks", "KL", "KL in answers", "same token", "right before", "right after", ""];
  const rows = models.map(({ model, merged_blocks, held_out, accuracy }) => {
    const numbers = [
      String(merged_blocks),
      formatNumber(held_out.kl),
      formatNumber(held_out.kl_answers),
      formatPercent(held_out.top1),
      accuracy === null ? "" : formatPercent(accuracy.before),
      accuracy === null ? "" : `${formatPercent(accuracy.after)} (${showInterval(accuracy.after_interval)})`,
    ];
    return html`<tr>
      <th scope="row">${model}</th>
      ${numbers.map((number) => html`<td class="number">${number}</td>`)}
      <td>${accuracy !== null && intervalPicture(accuracy)}</td>
    </tr>`;
  });
  return scrollingTable(heads, rows);
}

const PICTURE_WIDTH = 120;

/** From 0 to 100 %: a line for the interval, a dot for after, a ring for before. */
function intervalPicture({ before, after, after_interval: [low, high] }: AnswerAccuracy): Markup {
  const x = (share: number) => (6 + share * (PICTURE_WIDTH - 12)).toFixed(1);
  return html`<svg class="interval" width="${PICTURE_WIDTH}" height="20" aria-hidden="true">
    <line class="axis" x1="6" x2="${PICTURE_WIDTH - 6}" y1="10" y2="10" stroke="#b9bfc9" />
    <line class="range" x1="${x(low)}" x2="${x(high)}" y1="10" y2="10" stroke="#8a4fd3" stroke-width="4" />
    <circle class="before" cx="${x(before)}" cy="10" r="5" fill="none" stroke="#56616f" stroke-width="1.5" />
    <circle class="after" cx="${x(after)}" cy="10" r="3" fill="#8a4fd3" />
  </svg>`;
}

function showInterval([low, high]: readonly [number, number]): string {
  return `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}`;
}

const MOST_NAMED = 8;

function listLeftOut(left: EquivalentReport["left_out"]): string {
  const named = left.slice(0, MOST_NAMED).map(({ model, reason }) => `${model} (${reason})`);
  return [...named, ...(left.length > MOST_NAMED ? [`${left.length - MOST_NAMED} more`] : [])].join(", ");
}
