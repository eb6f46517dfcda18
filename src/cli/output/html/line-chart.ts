import { html, type Markup } from "./markup.ts";

export interface Series {
  name: string;
  /** Which of the page's colours; series of one colour differ by `dash`. */
  colour: number;
  dash: "solid" | "dashed" | "dotted";
  points: readonly (readonly [x: number, y: number])[];
}

export interface LineChart {
  /** For those who cannot see it. */
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  /** Dots at the points: they were measured, the line between them was not. */
  dots: boolean;
}

const WIDTH = 560;
const HEIGHT = 300;
const LEFT = 64;
const RIGHT = 22;
const TOP = 14;
const BOTTOM = 46;
const DASHES = { solid: "none", dashed: "7 4", dotted: "2 4" };

/** Lines over two axes that begin at 0, as SVG. */
export function renderLineChart({ title, xLabel, yLabel, series, dots }: LineChart): Markup {
  const all = series.flatMap(({ points }) => points);
  const xTicks = ticksUpTo(Math.max(0, ...all.map(([x]) => x)));
  const yTicks = ticksUpTo(Math.max(0, ...all.map(([, y]) => y)));
  const xAt = (x: number): string => (LEFT + (x / xTicks.at(-1)!) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const yAt = (y: number): string => (HEIGHT - BOTTOM - (y / yTicks.at(-1)!) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">
    ${yTicks.map(
      (tick) =>
        html`<line class="rule" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${yAt(tick)}" y2="${yAt(tick)}" />
          <text class="y" x="${LEFT - 8}" y="${yAt(tick)}">${showTick(tick)}</text>`,
    )}
    ${xTicks.map((tick) => html`<text class="x" x="${xAt(tick)}" y="${HEIGHT - BOTTOM + 18}">${showTick(tick)}</text>`)}
    <text class="x" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}">${xLabel}</text>
    <text class="x" transform="translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">${yLabel}</text>
    ${series.map(
      ({ colour, dash, points }) =>
        html`<polyline
            class="line c${colour}"
            stroke-dasharray="${DASHES[dash]}"
            points="${points.map(([x, y]) => `${xAt(x)},${yAt(y)}`).join(" ")}"
          />${dots && points.map(([x, y]) => html`<circle class="dot c${colour}" cx="${xAt(x)}" cy="${yAt(y)}" r="3" />`)}`,
    )}
  </svg>`;
}

export function renderLegend(series: readonly Series[]): Markup {
  return html`<ul class="legend">
    ${series.map(
      ({ name, colour, dash }) =>
        html`<li>
          <svg width="30" height="10" aria-hidden="true">
            <line class="line c${colour}" stroke-dasharray="${DASHES[dash]}" x1="0" x2="30" y1="5" y2="5" /></svg
          >${name}
        </li>`,
    )}
  </ul>`;
}

/** From 0 in steps of 1, 2 or 5 times a power of ten, to the first that is not below `most`. */
export function ticksUpTo(most: number): number[] {
  if (!(most > 0)) return [0, 1];
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * (1 - 1e-9))!;
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, at) => Number((at * step).toPrecision(6)));
}

function showTick(value: number): string {
  return value >= 10_000 ? `${Number((value / 1000).toPrecision(4))}k` : String(value);
}
