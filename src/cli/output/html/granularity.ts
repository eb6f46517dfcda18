import type { Dedupe } from "../../commands/dedupe.ts";
import { formatBytes } from "../format.ts";
import { describeGranularity } from "../granularity.ts";
import { html, type Markup } from "./markup.ts";
import { scrollingTable } from "./table.ts";

/** How fine layers are taken, and which parts serving cuts; nothing where every layer is shared whole or not at all. */
export function renderGranularity(value: Dedupe): Markup | null {
  const lines = describeGranularity(value);
  if (lines.length === 0) return null;
  return html`<section>
    <h2>How fine sharing goes</h2>
    ${lines.map((line) => html`<p>${line[0]!.toUpperCase()}${line.slice(1).replaceAll("`", "")}.</p>`)}
    ${value.serving.cuts.length > 0 && renderCuts(value)}
  </section>`;
}

function renderCuts({ serving }: Dedupe): Markup {
  const rows = serving.cuts.map(
    ({ place, models, runs, saved_bytes }) =>
      html`<tr>
        <th scope="row">${place}</th>
        <td>${runs.map((run) => run.join(" + ")).join(" | ")}</td>
        <td class="number">${models.length}</td>
        <td class="number">${formatBytes(saved_bytes)}</td>
      </tr>`,
  );
  const heads = ["part", "cut between weights", "models", "less memory"];
  return scrollingTable(heads, rows);
}
