import { html, type Markup } from "./markup.ts";
import { type Cell, type Column, type ReportView, shortName, type Way, WAYS } from "./report-view.ts";

/** Where the map's cells lie, in SVG units; the page's script reads it to tell which cell was clicked. */
export interface MapLayout {
  /** Left edge and width of each column. */
  x: number[];
  width: number[];
  rowHeight: number;
  /** Above the first row: the layers' numbers. */
  top: number;
  totalWidth: number;
  totalHeight: number;
}

/** Beside the names and what is chosen, on a screen 1280 wide. */
const MAP_WIDTH = 680;
const HEAD_HEIGHT = 18;
const GAP = 2;
/** Below the width at which letters can be read they are left out. */
const LETTER_WIDTH = 18;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

export function layOutMap({ models, columns }: ReportView): MapLayout {
  const stacks = stacksOf(columns);
  const stackWidth = Math.max(13, Math.min(64, Math.floor(MAP_WIDTH / Math.max(1, stacks.length))));
  const rowHeight = models.length > 100 ? 15 : models.length > 30 ? 19 : 31;
  const x: number[] = [];
  for (const [at, stack] of stacks.entries()) for (const column of stack) x[column] = at * stackWidth;
  return {
    x,
    width: columns.map(() => stackWidth),
    rowHeight,
    top: HEAD_HEIGHT,
    totalWidth: stacks.length * stackWidth,
    totalHeight: HEAD_HEIGHT + models.length * rowHeight,
  };
}

/** Attention and MLP of a layer stand one above the other; every other block has its row's whole height. */
function stacksOf(columns: Column[]): number[][] {
  const stacks: number[][] = [];
  columns.forEach(({ layer }, at) => {
    const before = columns[at - 1];
    if (layer !== null && before?.layer === layer) stacks.at(-1)!.push(at);
    else stacks.push([at]);
  });
  return stacks;
}

/** Models in the rows, layers in the columns; attention above, MLP below. Cells of one way are one path: thousands stay fast. */
export function renderHeatmap(view: ReportView, layout: MapLayout): Markup {
  const { totalWidth, totalHeight, rowHeight, top } = layout;
  const names = view.models.map(
    ({ name }, row) =>
      html`<text x="100%" text-anchor="end" y="${top + row * rowHeight + rowHeight / 2}"
        ><title>${name}</title>${shortName(name)}</text
      >`,
  );
  return html`<div class="map" id="map">
    <svg class="names" width="150" height="${totalHeight}" aria-hidden="true">${names}</svg>
    <div class="scroll">
      <div
        class="grid"
        id="map-grid"
        tabindex="0"
        role="application"
        aria-roledescription="map of blocks"
        aria-label="Blocks of every model. Arrow keys go from block to block; what is known about the block is read below."
        aria-describedby="ways"
      >
        <svg
          width="${totalWidth}"
          height="${totalHeight}"
          viewBox="0 0 ${totalWidth} ${totalHeight}"
          aria-hidden="true"
        >
          ${patterns()}${layerNumbers(view.columns, layout)}${WAYS.map(({ id }) => cellsOf(view, id, layout))}${letters(view, layout)}
          <g id="map-same"></g>
          <rect id="map-cursor" class="cursor" visibility="hidden" />
        </svg>
      </div>
    </div>
  </div>`;
}

/** The text beside each colour of the map. */
export function renderLegend({ models }: ReportView): Markup {
  const used = new Set(models.flatMap(({ cells }) => cells.map(({ way }) => way)));
  const entries = WAYS.filter(({ id }) => used.has(id)).map(
    ({ id, name }) =>
      html`<li>
        <svg width="16" height="16" aria-hidden="true">
          <rect width="16" height="16" class="way ${id}" fill="${FILLS[id]}" />
        </svg>
        ${name}
      </li>`,
  );
  return html`<ul class="legend" id="ways">
    ${entries}
  </ul>`;
}

/** As attributes, too: a page whose styles are refused still shows its colours. */
const FILLS: Record<Way, string> = {
  exact: "#2f6fde",
  lowrank: "#0f9d7a",
  equivalent: "#8a4fd3",
  residual: "#c77700",
  tensors: "#9dbdf2",
  "lowrank-possible": "url(#lowrank-possible)",
  "equivalent-possible": "url(#equivalent-possible)",
  "residual-possible": "url(#residual-possible)",
  own: "#b9bfc9",
};

/** Only measured: drawn as stripes, so that it is not told from what is by hue alone. */
function patterns(): Markup {
  const stripes = (["lowrank", "equivalent", "residual"] as const).map(
    (tier) =>
      html`<pattern
        id="${tier}-possible"
        width="5"
        height="5"
        patternUnits="userSpaceOnUse"
        patternTransform="rotate(45)"
      >
        <rect width="5" height="5" class="stripe-ground" fill="#d9dde3" /><rect
          width="2.2"
          height="5"
          class="stripe ${tier}"
          fill="${{ lowrank: "#0f9d7a", equivalent: "#8a4fd3", residual: "#c77700" }[tier]}"
      /></pattern>`,
  );
  return html`<defs>${stripes}</defs>`;
}

function layerNumbers(columns: Column[], { x, width, top }: MapLayout): Markup[] {
  const every = width[0]! >= 22 ? 1 : 4;
  return columns.flatMap(({ kind, layer }, at) => {
    if (kind === "mlp" && columns[at - 1]?.layer === layer) return [];
    if (layer !== null && layer % every !== 0) return [];
    const short = { embedding: "in", head: "out", opaque: "whole", attention: "", mlp: "" }[kind];
    const label = layer === null ? (width[at]! >= 48 && kind !== "opaque" ? kind : short) : String(layer);
    return [
      html`<text class="layer" text-anchor="middle" x="${x[at]! + width[at]! / 2}" y="${top - 6}">${label}</text>`,
    ];
  });
}

function cellsOf({ models }: ReportView, way: Way, layout: MapLayout): Markup | null {
  const path = models.flatMap(({ cells }, row) =>
    cells.filter((cell) => cell.way === way).map((cell) => rectangle(cell, row, layout)),
  );
  return path.length === 0 ? null : html`<path class="way ${way}" fill="${FILLS[way]}" d="${path.join("")}" />`;
}

function rectangle({ column, half }: Cell, row: number, { x, width, top, rowHeight }: MapLayout): string {
  const [offset, height] = spanOf(half, rowHeight);
  const across = width[column]! - GAP;
  return `M${x[column]} ${top + row * rowHeight + offset}h${across}v${height}h-${across}z`;
}

/** Top and height in the row. */
function spanOf(half: Cell["half"], rowHeight: number): [number, number] {
  const whole = rowHeight - GAP;
  const part = Math.floor((whole - 1) / 2);
  return { whole: [0, whole], upper: [0, part], lower: [whole - part, part] }[half] as [number, number];
}

/** The same letter in a column: the same block. Each model that brings a shared block gets the next letter. */
function letters({ models }: ReportView, { x, width, top, rowHeight }: MapLayout): Markup[] {
  if (width[0]! < LETTER_WIDTH || rowHeight < 28) return [];
  const known = new Map<string, string>();
  return models.flatMap(({ cells }, row) => {
    const next = LETTERS[new Set(known.values()).size] ?? "*";
    return cells.flatMap(({ block, column, half }) => {
      if (block.shared_with.length === 0) return [];
      if (!known.has(block.digest)) known.set(block.digest, next);
      const [offset, height] = spanOf(half, rowHeight);
      const middle = top + row * rowHeight + offset + height / 2;
      return [
        html`<text class="letter" text-anchor="middle" x="${x[column]! + width[column]! / 2 - 1}" y="${middle}"
          >${known.get(block.digest)!}</text
        >`,
      ];
    });
  });
}
