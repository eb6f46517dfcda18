import type { Dedupe } from "../../commands/dedupe.ts";
import { formatCount } from "../format.ts";
import { renderDrift } from "./drift.ts";
import { renderFirstScreen } from "./first-screen.ts";
import { renderGates } from "./gates.ts";
import { renderGranularity } from "./granularity.ts";
import { layOutMap, renderHeatmap, renderLegend } from "./heatmap.ts";
import { html } from "./markup.ts";
import { renderModels } from "./model-table.ts";
import { renderPage, showMoment } from "./page.ts";
import { renderQuality } from "./quality.ts";
import { reportData } from "./report-data.ts";
import { REPORT_SCRIPT } from "./report-script.ts";
import { REPORT_STYLE } from "./report-style.ts";
import { orderAlike, viewReport } from "./report-view.ts";
import { compareModels, renderMatrix } from "./similarity-matrix.ts";

/** The value of `dedupe` as one HTML page that needs nothing else. */
export function renderReport(measured: Dedupe, { madeAt }: { madeAt: Date }): string {
  const value = orderAlike(measured);
  const view = viewReport(value);
  const layout = layOutMap(view);
  const likeness = compareModels(value);
  const body =
    value.models === 0
      ? html`<p class="lead">There are no models yet.</p>`
      : html`${renderFirstScreen(value)} ${renderGates(value)}
          <section>
            <h2>Every block of every model</h2>
            <p class="note">
              One row per model, one square per layer: attention above, MLP below. Choose a block to see what is known
              about it.
            </p>
            ${renderLegend(view)}
            <div class="choose">
              ${renderHeatmap(view, layout)}
              <div class="details" id="block-details" aria-live="polite"></div>
            </div>
          </section>
          <section>
            <h2>Which models are alike</h2>
            <p class="note">Per cent of the larger model's bytes that are the same.</p>
            <div class="choose">
              <div>${renderMatrix(value, likeness)}</div>
              <div class="details" id="couple-details" aria-live="polite"></div>
            </div>
          </section>
          ${renderQuality(value)} ${renderDrift(value)} ${renderGranularity(value)}
          <section>
            <h2>Models</h2>
            ${renderModels(value, view, likeness)}
          </section>`;
  return renderPage({
    title: `What ${formatCount(value.models, "model")} share`,
    heading: "What the models share",
    note: `blockllm dedupe, ${showMoment(madeAt)}`,
    style: REPORT_STYLE,
    body,
    script: {
      source: REPORT_SCRIPT,
      data: value.models === 0 ? null : reportData(value, view, { layout, likeness }),
    },
  });
}
