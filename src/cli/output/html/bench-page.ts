import type { Gate } from "../../../traffic/gates.ts";
import { describePoint } from "../../../traffic/points.ts";
import type { BenchReport, PointReport, PointResult } from "../../../traffic/report.ts";
import { BENCH_COLUMNS, pointRows } from "../bench.ts";
import { formatCount } from "../format.ts";
import { BENCH_STYLE } from "./bench-style.ts";
import { renderLegend, renderLineChart, type Series } from "./line-chart.ts";
import { html, type Markup } from "./markup.ts";
import { renderPage, showMoment } from "./page.ts";

/** The value of `bench` as one HTML page that needs nothing else: no network, no other file, no script. */
export function renderBenchPage(report: BenchReport & { gates: Gate[] }, { madeAt }: { madeAt: Date }): string {
  const { scenario, machine, sides, points, notes, gates } = report;
  const { cpu, threads, memory_gib, node, load_average } = machine;
  return renderPage({
    title: `bench ${scenario.name}`,
    heading: `${scenario.name}: ${sides.map(({ name }) => name).join(" against ")}`,
    script: null,
    note: `blockllm bench, ${showMoment(madeAt)}; ${cpu}, ${threads} threads, ${memory_gib} GiB, Node ${node}, load average ${load_average} before`,
    style: BENCH_STYLE,
    body: html`${scenario.about !== "" && html`<p class="lead">${scenario.about}</p>`}
      ${gates.filter(({ passed }) => !passed).map(({ says }) => html`<p class="failed">${says}</p>`)}
      ${sides.map(
        ({ name, about, models, load_seconds }) =>
          html`<p class="note">
            <b>${name}</b>: ${about}; ${formatCount(models.length, "model")}, loaded in
            ${load_seconds.median.toFixed(1)} s
          </p>`,
      )}
      ${saturationNote(report)}
      ${
        points.length > 1 &&
        html`<h2>Latency by load</h2>
          ${latencyByLoad(report)}`
      }
      <h2>How latency is distributed</h2>
      <div class="charts">${points.map(distribution)}</div>
      <h2>All numbers</h2>
      <div class="scroll">${numbers(report)}</div>
      <p class="note">
        Medians of ${formatCount(scenario.repeats, "repeat")}; ratios with the least and the most. Times in ms from when
        a request was due, also where the server kept it waiting: first token, mean of later tokens, whole answer;
        processor time of all threads per token.
      </p>
      ${notes.map((note) => html`<p class="note">${note}</p>`)}
      <h2>Scenario</h2>
      <pre>${JSON.stringify(scenario, null, 2)}</pre>`,
  });
}

function saturationNote({ saturation }: BenchReport): Markup | false {
  if (saturation === null) return false;
  const rate = saturation.requests_per_second.median.toFixed(2);
  return html`<p class="note">100 % of saturation: ${rate} requests/s, what ${saturation.side} gets done.</p>`;
}

const DASH_OF = { latency_p50_ms: "dotted", latency_p95_ms: "solid", latency_p99_ms: "dashed" } as const;
const QUANTILES = ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"] as const;

function latencyByLoad({ points, sides }: BenchReport): Markup {
  const chartOf = (names: readonly (typeof QUANTILES)[number][]): Series[] =>
    sides.flatMap(({ name }, colour) =>
      names.map((quantile) => ({
        name: `${name}, ${quantile.slice(8, 11)}`,
        colour,
        dash: DASH_OF[quantile],
        points: points.flatMap(({ results }) => {
          const { medians, runs } = results[colour]!;
          const offered = runs.reduce((sum, run) => sum + run.offered_per_second, 0) / runs.length;
          return medians[quantile] === null ? [] : [[offered, medians[quantile].median] as const];
        }),
      })),
    );
  return html`<div class="charts">
    ${chart("Whole answer", chartOf(["latency_p50_ms", "latency_p95_ms"]))}
    ${chart("The slowest", chartOf(["latency_p95_ms", "latency_p99_ms"]))}
  </div>`;
}

function chart(title: string, series: Series[]): Markup {
  return html`<div class="chart">
    <h3>${title}</h3>
    ${renderLineChart({
      title: `${title}: latency by offered load`,
      xLabel: "offered load, requests/s",
      yLabel: "latency, ms",
      series,
      dots: true,
    })}${renderLegend(series)}
  </div>`;
}

function distribution({ load, results }: PointReport): Markup {
  const title = describePoint(load);
  const series = results.map((result, colour): Series => ({
    name: result.side,
    colour,
    dash: "solid",
    points: shareCurve(result),
  }));
  return html`<div class="chart">
    <h3>${title}</h3>
    ${renderLineChart({
      title: `${title}: share of requests answered by latency`,
      xLabel: "latency, ms",
      yLabel: "answered, %",
      series,
      dots: false,
    })}${renderLegend(series)}
  </div>`;
}

/** Of the repeats together: all their curves have the same shares. */
function shareCurve({ runs }: PointResult): [latency: number, share: number][] {
  const curves = runs.map(({ latency_curve_ms }) => latency_curve_ms).filter(({ length }) => length > 0);
  const all = curves.flat().toSorted((a, b) => a - b);
  const stride = Math.max(1, curves.length);
  return all.flatMap((latency, at) =>
    at % stride === 0 || at === all.length - 1 ? [[latency, (100 * (at + 1)) / all.length]] : [],
  );
}

function numbers({ points }: BenchReport): Markup {
  return html`<table>
    <thead>
      <tr>
        ${BENCH_COLUMNS.map(({ head }) => html`<th>${head}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${points.flatMap(pointRows).map(
        (cells) =>
          html`<tr class="${cells[1] === "ratio" ? "ratio" : "side"}">
            ${cells.map((cell, at) =>
              BENCH_COLUMNS[at]!.align === "right" ? html`<td class="number">${cell}</td>` : html`<td>${cell}</td>`,
            )}
          </tr>`,
      )}
    </tbody>
  </table>`;
}
