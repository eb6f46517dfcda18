import type { ServingBytes } from "../../../chain/serving-bytes.ts";
import type { Tier } from "../../../store/sharing.ts";
import type { Dedupe } from "../../commands/dedupe.ts";
import { formatBytes, formatCount, formatPercent } from "../format.ts";
import { html, type Markup } from "./markup.ts";
import { describeQuality } from "./quality.ts";

/** What is saved and what it costs, for somebody who reads nothing else. */
export function renderFirstScreen(value: Dedupe): Markup {
  const { models, stored_bytes, logical_bytes, ratio } = value;
  const quality = describeQuality(value);
  return html`<p class="lead">
      ${formatCount(models, "model")} of ${formatBytes(logical_bytes)} together are kept in
      <strong>${formatBytes(stored_bytes)}</strong>: ${saving(stored_bytes, logical_bytes)}. ${quality.sentence}
    </p>
    <div class="cards">
      ${card("Disk", formatBytes(logical_bytes - stored_bytes), "saved", html`${formatBytes(stored_bytes)} instead of ${formatBytes(logical_bytes)}, ratio ${ratio.toFixed(2)}. Every distinct block is stored once.${kept(value)}`)}
      ${memoryCard(value.serving)}${machinesCard(value.serving)} ${card("Quality", quality.figure, "", quality.text)}
    </div>
    ${possible(value)}`;
}

function kept({ kept_original_bytes }: Dedupe): string {
  if (kept_original_bytes === 0) return "";
  return ` ${formatBytes(kept_original_bytes)} are there only so that merges can be undone.`;
}

function card(title: string, figure: string, unit: string, text: Markup | string): Markup {
  return html`<section class="card">
    <h2>${title}</h2>
    <p class="figure">${figure} <small>${unit}</small></p>
    <p>${text}</p>
  </section>`;
}

function saving(now: number, before: number): string {
  return now < before ? `${formatPercent(1 - now / Math.max(1, before))} less` : "nothing is shared";
}

function memoryCard({ shared_bytes, separate_bytes }: ServingBytes): Markup {
  const saved = separate_bytes - shared_bytes;
  return card(
    "Memory for weights",
    formatBytes(Math.max(0, saved)),
    "saved",
    html`${formatBytes(shared_bytes)} in one server for all models, instead of ${formatBytes(separate_bytes)} in one
    deployment per model.`,
  );
}

/** Weights of one model by itself, and of each further one like those of the report; bytes. */
export interface Fit {
  one: number;
  further: number;
  count: number;
}

export function fitOf({ shared_bytes, separate_bytes, per_model }: ServingBytes): Fit | null {
  const count = per_model.length;
  const one = separate_bytes / Math.max(1, count);
  if (count < 2 || one === 0 || shared_bytes >= separate_bytes) return null;
  return { one, further: Math.max(0, (shared_bytes - one) / (count - 1)), count };
}

/** Models that fit into so many bytes; null: there is no end. */
export function modelsThatFit({ one, further }: Fit, bytes: number): { apart: number; together: number | null } {
  const apart = Math.floor(bytes / one + 1e-9);
  if (apart === 0) return { apart, together: 0 };
  return { apart, together: further === 0 ? null : 1 + Math.floor((bytes - one) / further + 1e-9) };
}

function machinesCard(serving: ServingBytes): Markup | null {
  const fit = fitOf(serving);
  if (fit === null) return null;
  const bytes = sizeAbove(serving.shared_bytes);
  const { apart, together } = modelsThatFit(fit, bytes);
  const machines = apart === 0 ? fit.count : Math.ceil(fit.count / apart);
  const holds = together === null ? "any number of" : String(together);
  return card(
    "Machines",
    machines > 1 ? `1 instead of ${machines}` : `${holds} instead of ${apart}`,
    machines > 1 ? "" : "models each",
    html`A machine with ${formatBytes(bytes)} for weights holds ${holds} such models with shared blocks, ${apart} apart.
      <span class="scripted" hidden
        ><label
          >With <input id="fit-size" type="number" min="0" step="any" size="6" />
          <select id="fit-unit" aria-label="unit">
            <option>MB
            <option>GB
            <option>TB
          </select></label
        >: <output id="fit-answer"></output
      ></span>`,
  );
}

const SIZES = [1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768];

/** The next size that memory is sold in, decimal. */
export function sizeAbove(bytes: number): number {
  for (let unit = 1; ; unit *= 1000) {
    const size = SIZES.find((each) => each * unit >= bytes);
    if (size !== undefined) return size * unit;
  }
}

/** What was measured and has not been applied. */
function possible({ tiers, done, equivalent, applied, ...value }: Dedupe): Markup | null {
  const ways = [
    { how: "as low-rank factors", ...without(tiers.lowrank, done.lowrank) },
    { how: "as lossless differences (disk only)", ...without(tiers.residual, done.residual) },
    {
      how: "by others that behave alike",
      ...(applied || !equivalent ? { blocks: 0, saved_bytes: 0 } : equivalent.tier),
    },
  ].filter(({ blocks }) => blocks > 0);
  if (ways.length === 0) return null;
  const { reachable_bytes, logical_bytes, reachable_ratio } = value;
  const parts = ways.map(
    ({ how, blocks, saved_bytes }) => `${formatCount(blocks, "block")} ${how} (${formatBytes(saved_bytes)})`,
  );
  return html`<p class="note">
    <b>More is possible:</b> ${parts.join(", ")}. That would bring the disk to ${formatBytes(reachable_bytes)},
    ${formatPercent(1 - reachable_bytes / Math.max(1, logical_bytes))} less than apart, ratio
    ${reachable_ratio.toFixed(2)}. It is measured and not applied.
  </p>`;
}

function without(all: Tier, done: Tier): Tier {
  return { blocks: all.blocks - done.blocks, saved_bytes: all.saved_bytes - done.saved_bytes };
}
