import type { Dedupe } from "../../commands/dedupe.ts";
import { formatBytes, formatPercent } from "../format.ts";
import { html, type Markup } from "./markup.ts";
import { scrollingTable } from "./table.ts";
import type { ReportView } from "./report-view.ts";
import { type Likeness, likenessOf, type LikenessTable } from "./similarity-matrix.ts";

/** One row per model: the page's answer where pictures do not help. */
export function renderModels(
  { per_model, kept_original_bytes }: Dedupe,
  view: ReportView,
  table: LikenessTable,
): Markup {
  const heads = [
    "model",
    "size",
    "its own",
    "shared",
    ...(kept_original_bytes > 0 ? ["kept to undo"] : []),
    "blocks shared",
    "could be a difference",
    "most alike",
    "first differs at",
  ];
  const names = per_model.map(({ name }) => name);
  const rows = per_model.map(({ name, bytes, unique_bytes, kept_original_bytes: kept = 0, blocks }, at) => {
    const shared = blocks.filter(({ shared_with }) => shared_with.length > 0).length;
    const possible = view.models[at]!.cells.filter(({ way }) => way.endsWith("-possible")).length;
    const nearest = findNearest(at, names, table);
    const numbers = [
      formatBytes(bytes),
      formatBytes(unique_bytes - kept),
      formatPercent(Math.max(0, 1 - (unique_bytes - kept) / Math.max(1, bytes))),
      ...(kept_original_bytes > 0 ? [formatBytes(kept)] : []),
      `${shared} of ${blocks.length}`,
      possible === 0 ? "" : possible,
    ];
    return html`<tr>
      <th scope="row">${name}</th>
      ${numbers.map((number) => html`<td class="number">${number}</td>`)}
      <td>${nearest?.name ?? ""}</td>
      <td>${nearest === null ? "" : (nearest.like.divergence ?? "no block")}</td>
    </tr>`;
  });
  return scrollingTable(heads, rows);
}

function findNearest(at: number, names: string[], table: LikenessTable): { name: string; like: Likeness } | null {
  let best: { name: string; like: Likeness } | null = null;
  for (const [other, name] of names.entries()) {
    const like = likenessOf(table, at, other);
    if (like && (best === null || like.share > best.like.share)) best = { name, like };
  }
  return best;
}
