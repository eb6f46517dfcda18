import { createHash } from "node:crypto";

import type { Dedupe } from "../../commands/dedupe.ts";
import { formatCount } from "../format.ts";
import { renderFirstScreen } from "./first-screen.ts";
import { renderGates } from "./gates.ts";
import { layOutMap, renderHeatmap, renderLegend } from "./heatmap.ts";
import { html, Markup, scriptJson } from "./markup.ts";
import { renderModels } from "./model-table.ts";
import { renderQuality } from "./quality.ts";
import { reportData } from "./report-data.ts";
import { REPORT_SCRIPT } from "./report-script.ts";
import { REPORT_STYLE } from "./report-style.ts";
import { orderAlike, viewReport } from "./report-view.ts";
import { compareModels, renderMatrix } from "./similarity-matrix.ts";

/** How a report is told from any other file that should not be written over. */
export const REPORT_MARK = '<meta name="generator" content="blockllm report">';

/**
 * The value of `dedupe` as one HTML page that needs nothing else: no network, no other file. Its script and style are
 * named by their digests in the page's own policy, so nothing else in it can run.
 */
export function renderReport(measured: Dedupe, { madeAt }: { madeAt: Date }): string {
  const value = orderAlike(measured);
  const view = viewReport(value);
  const layout = layOutMap(view);
  const likeness = compareModels(value);
  const policy = `default-src 'none'; style-src '${hashOf(REPORT_STYLE)}'; script-src '${hashOf(REPORT_SCRIPT)}'; base-uri 'none'; form-action 'none'`;
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
            ${renderLegend(view)}${renderHeatmap(view, layout)}
            <div class="details" id="block-details" aria-live="polite"></div>
          </section>
          <section>
            <h2>Which models are alike</h2>
            <p class="note">Per cent of the larger model's bytes that are the same.</p>
            ${renderMatrix(value, likeness)}
            <div class="details" id="couple-details" aria-live="polite"></div>
          </section>
          ${renderQuality(value)}
          <section>
            <h2>Models</h2>
            ${renderModels(value, view, likeness)}
          </section>`;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        ${new Markup(REPORT_MARK)}
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>What ${formatCount(value.models, "model")} share</title>
        ${new Markup(`<style>${REPORT_STYLE}</style>`)}
      </head>
      <body>
        <header>
          <h1>What the models share</h1>
          <p class="note">blockllm dedupe, ${madeAt.toISOString().slice(0, 16).replace("T", " ")} UTC</p>
        </header>
        <main>${body}</main>
        <script type="application/json" id="data">
          ${scriptJson(value.models === 0 ? null : reportData(value, view, { layout, likeness }))}
        </script>
        ${new Markup(`<script>${REPORT_SCRIPT}</script>`)}
      </body>
    </html> `.text;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
