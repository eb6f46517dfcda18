import type { BlockPlace, Neighbour, SimilarBlocks } from "../../store/find-similar.ts";
import { formatBytes, formatCount, formatNumber } from "./format.ts";
import { renderTable } from "./table.ts";

export function printSimilar({ block, candidates, neighbours }: SimilarBlocks): string {
  const name = nameOf(block);
  if (neighbours.length === 0) return `no other block has the kind, shapes and types of ${name}`;
  const table = renderTable(
    [
      { head: "block" },
      { head: "cosine", align: "right" },
      { head: "by sketch", align: "right" },
      { head: "relative difference", align: "right" },
      { head: "why" },
    ],
    neighbours.map((neighbour) => [
      neighbour.places.map(nameOf).join(", "),
      neighbour.weight_cosine.toFixed(6),
      `${neighbour.estimated_cosine.toFixed(2)} (${formatCount(neighbour.sketch_distance, "bit")})`,
      formatNumber(neighbour.relative_delta),
      explain(neighbour, block),
    ]),
  );
  return `${table}\n\n${formatCount(candidates, "distinct block")} with the kind, shapes and types of ${name} (${formatBytes(block.bytes)})`;
}

/** Below it, blocks of the same shapes have no more in common than any two. */
const UNRELATED_COSINE = 0.3;

function explain(neighbour: Neighbour, block: SimilarBlocks["block"]): string {
  const { same_digest, weight_cosine, tensors, shared_tensors, shared_tensor_bytes, low_rank } = neighbour;
  if (same_digest) return `the same block (same digest)${describeExporters(neighbour, block)}`;
  const differing = tensors.filter(({ same }) => !same);
  if (differing.length === 0) return `the same weights in another graph${describeExporters(neighbour, block)}`;
  const rest = neighbour.same_function ? "" : ", and the graphs differ";
  if (low_rank !== null) {
    const how = low_rank.exact ? "to rounding" : "nearly";
    const count = differing.length === 1 ? "one weight differs" : `${differing.length} weights differ`;
    const all = low_rank.tensors === differing.length ? "" : `${low_rank.tensors} of them `;
    return `a merged LoRA: ${count}, ${all}${how} by rank ${low_rank.rank}${rest}`;
  }
  const most = differing.toSorted((a, b) => b.relative_delta - a.relative_delta)[0]!;
  const farthest = `${most.name} differs most, by ${formatNumber(most.relative_delta)}`;
  if (shared_tensors === 0) {
    const kind = weight_cosine < UNRELATED_COSINE ? "unrelated weights" : "every weight differs";
    return `${kind}; ${farthest}${rest}`;
  }
  return `${formatCount(shared_tensors, "weight")} shared (${formatBytes(shared_tensor_bytes)}), ${differing.length} not; ${farthest}${rest}`;
}

function describeExporters({ exporters }: Neighbour, { exporter }: SimilarBlocks["block"]): string {
  const others = exporters.filter((each) => each !== exporter);
  return others.length === 0 ? "" : `, also exported by ${others.join(" and ")}`;
}

function nameOf({ model, kind, layer, with_factors }: BlockPlace): string {
  const name = layer === null ? `${model}:${kind}` : `${model}:${kind}.${layer}`;
  return with_factors ? `${name} without its factors` : name;
}
