import type { Dedupe } from "../../commands/dedupe.ts";
import { fitOf, sizeAbove } from "./first-screen.ts";
import type { MapLayout } from "./heatmap.ts";
import { type MeasuredPair, type ReportView, WAYS } from "./report-view.ts";
import { layOutMatrix, type LikenessTable } from "./similarity-matrix.ts";

/** Tensor by tensor only up to here: beyond it the page would be tens of megabytes, and `--json` has them. */
const MOST_DETAILED = 4000;

/** What the page's script shows when a block or a couple of models is chosen; report-script.ts reads it. */
export function reportData(
  value: Dedupe,
  view: ReportView,
  { layout, likeness }: { layout: MapLayout; likeness: LikenessTable },
): object {
  const digests = new Map<string, number>();
  const blocks: [digest: string, bytes: number, sharedTensorBytes: number, pair: number][] = [];
  const pairs: MeasuredPair[] = [];
  const merges: Record<string, unknown> = {};
  const cells = view.models.map(({ cells: row }, model) => {
    const placed: ([block: number, way: number, half: string] | 0)[] = view.columns.map(() => 0);
    for (const { column, block, way, half, measured } of row) {
      const { digest, bytes, shared_tensor_bytes, residual_saved_bytes, replaces, adapter } = block;
      if (!digests.has(digest)) {
        digests.set(digest, blocks.length);
        blocks.push([digest, bytes, shared_tensor_bytes, measured === null ? -1 : pairs.push(measured) - 1]);
      }
      if (replaces || adapter || residual_saved_bytes !== undefined)
        merges[`${model},${column}`] = { replaces, adapter, residual_saved_bytes };
      placed[column] = [digests.get(digest)!, WAYS.findIndex(({ id }) => id === way), half[0]!];
    }
    return placed;
  });
  return {
    models: value.per_model.map(({ name }) => name),
    columns: view.columns.map(({ label }) => label),
    ways: WAYS.map(({ name }) => name),
    cells,
    blocks,
    pairs: pairs.length > MOST_DETAILED ? pairs.map((pair) => ({ ...pair, tensors: [] })) : pairs,
    merges,
    likeness: likeness.map((row) => row.map((like) => like && [like.bytes, like.share, like.divergence])),
    layout,
    matrix: layOutMatrix(value.per_model.length),
    fit: fitOf(value.serving) && { ...fitOf(value.serving), bytes: sizeAbove(value.serving.shared_bytes) },
  };
}
