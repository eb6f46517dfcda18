import type { Dedupe } from "../../commands/dedupe.ts";
import { formatCount, formatPercent } from "../format.ts";
import { html, type Markup } from "./markup.ts";
import { nameBlock, shortName } from "./report-view.ts";

/** What two models have in common. */
export interface Likeness {
  bytes: number;
  /** Of the larger one's bytes. */
  share: number;
  /** The first block in which they differ; null: in none. */
  divergence: string | null;
}

/** At [i][j] for i < j; null elsewhere. */
export type LikenessTable = (Likeness | null)[][];

export interface MatrixLayout {
  /** Of a cell, in SVG units. */
  side: number;
  /** Above the first row: the models' numbers. */
  top: number;
}

const SHADES = 10;
/** Cells in which a number can be read, beside which a name can, and above which an ordinal can. */
const NUMBER_SIDE = 34;
const NAME_SIDE = 9;
const ORDINAL_SIDE = 18;

export function layOutMatrix(models: number): MatrixLayout {
  return { side: Math.max(4, Math.min(46, Math.floor(680 / Math.max(1, models)))), top: 18 };
}

export function compareModels({ per_model, first_divergence }: Dedupe): LikenessTable {
  const places = new Map(per_model.map(({ name }, at) => [name, at]));
  const table = per_model.map(() => per_model.map((): Likeness | null => null));
  for (const { a, b, layer, kind, shared_bytes } of first_divergence) {
    const [i, j] = [places.get(a)!, places.get(b)!];
    const larger = Math.max(per_model[i]!.bytes, per_model[j]!.bytes, 1);
    table[Math.min(i, j)]![Math.max(i, j)] = {
      bytes: shared_bytes,
      share: Math.min(1, shared_bytes / larger),
      divergence: kind === null ? null : nameBlock(kind, layer),
    };
  }
  return table;
}

export function likenessOf(table: LikenessTable, a: number, b: number): Likeness | null {
  return table[Math.min(a, b)]![Math.max(a, b)] ?? null;
}

/** Couples of one shade are one path, so that hundreds of models stay fast. */
export function renderMatrix({ per_model }: Dedupe, table: LikenessTable): Markup {
  const names = per_model.map(({ name }) => name);
  const layout = layOutMatrix(names.length);
  const size = names.length * layout.side;
  const height = layout.top + size;
  return html`<div class="map">
      <svg class="names" width="150" height="${height}" aria-hidden="true">${labels(names, layout)}</svg>
      <div class="scroll">
        <div
          class="grid"
          id="matrix-grid"
          tabindex="0"
          role="application"
          aria-roledescription="matrix of models"
          aria-label="What every two models have in common. Arrow keys go from couple to couple; what they share is read below."
        >
          <svg width="${size}" height="${height}" viewBox="0 0 ${size} ${height}" aria-hidden="true">
            ${ordinals(names.length, layout)}${cells(table, layout)}${numbers(table, layout)}
            <rect id="matrix-cursor" class="cursor" visibility="hidden" />
          </svg>
        </div>
      </div>
    </div>
    ${mostAlike(names, table)}`;
}

function shadeOf(share: number): number {
  return Math.min(SHADES, Math.floor(share * SHADES));
}

function shareAt(table: LikenessTable, i: number, j: number): number {
  return i === j ? 1 : (likenessOf(table, i, j)?.share ?? 0);
}

function cells(table: LikenessTable, { side, top }: MatrixLayout): (Markup | false)[] {
  const shades = Array.from({ length: SHADES + 1 }, () => "");
  const across = side - (side > 10 ? 2 : 0);
  for (const i of table.keys()) {
    for (const j of table.keys()) {
      shades[shadeOf(shareAt(table, i, j))] += `M${j * side} ${top + i * side}h${across}v${across}h-${across}z`;
    }
  }
  return shades.map((path, shade) => {
    const opacity = (0.06 + (0.94 * shade) / SHADES).toFixed(2);
    return path !== "" && html`<path class="shade" fill="#2f6fde" fill-opacity="${opacity}" d="${path}" />`;
  });
}

function numbers(table: LikenessTable, { side, top }: MatrixLayout): Markup[] {
  if (side < NUMBER_SIDE) return [];
  return table.flatMap((_, i) =>
    table.map((__, j) => {
      const share = shareAt(table, i, j);
      const [x, y] = [(j + 0.5) * side - 1, top + (i + 0.5) * side - 1];
      const tone = shadeOf(share) > 5 ? "number dark" : "number";
      return html`<text class="${tone}" text-anchor="middle" x="${x}" y="${y}">${Math.floor(100 * share)}</text>`;
    }),
  );
}

function labels(names: string[], { side, top }: MatrixLayout): Markup[] {
  if (side < NAME_SIDE) return [];
  return names.map((name, at) => {
    const ordinal = side < ORDINAL_SIDE ? "" : ` ${at + 1}`;
    const title = html`<title>${name}</title>`;
    const y = top + (at + 0.5) * side - 1;
    return html`<text x="100%" text-anchor="end" y="${y}">${title}${shortName(name)}${ordinal}</text>`;
  });
}

function ordinals(count: number, { side, top }: MatrixLayout): Markup[] {
  if (side < ORDINAL_SIDE) return [];
  return Array.from({ length: count }, (_, at) => {
    const x = (at + 0.5) * side - 1;
    return html`<text class="layer" text-anchor="middle" x="${x}" y="${top - 6}">${at + 1}</text>`;
  });
}

/** The matrix in words: the answer most look for, also for those who cannot see it. */
function mostAlike(names: string[], table: LikenessTable): Markup | null {
  const couples = table.flatMap((row, i) =>
    row.flatMap((like, j) => (like === null ? [] : [{ a: names[i]!, b: names[j]!, like }])),
  );
  if (couples.length === 0) return null;
  const copies = couples.filter(({ like }) => like.divergence === null);
  const { a, b, like } = couples.reduce((best, couple) => (couple.like.share > best.like.share ? couple : best));
  const most = `${formatPercent(like.share)} of their bytes are the same`;
  const have = copies.length === 1 ? "has" : "have";
  const same = copies.length > 0 && ` ${formatCount(copies.length, "couple")} of models ${have} every block in common.`;
  return html`<p class="note">The most alike are <b>${a}</b> and <b>${b}</b>: ${most}.${same}</p>`;
}
