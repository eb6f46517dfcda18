import type { Neighbour, SimilarBlocks } from "../../store/find-similar.ts";
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
      neighbour.estimated_cosine.toFixed(2),
      formatNumber(neighbour.relative_delta),
      explain(neighbour),
    ]),
  );
  return `${table}\n\n${formatCount(candidates, "distinct block")} with the kind, shapes and types of ${name} (${formatBytes(block.bytes)})`;
}

function explain({ same_digest, tensors, shared_tensors, shared_tensor_bytes }: Neighbour): string {
  if (same_digest) return "same digest";
  const differing = tensors.filter(({ same }) => !same);
  if (differing.length === 0) return "same weights, another graph";
  const most = differing.toSorted((a, b) => b.relative_delta - a.relative_delta)[0]!;
  const farthest = `${most.name} differs most, by ${formatNumber(most.relative_delta)}`;
  if (shared_tensors === 0) return `every tensor differs; ${farthest}`;
  return `${formatCount(shared_tensors, "tensor")} shared (${formatBytes(shared_tensor_bytes)}), ${differing.length} not; ${farthest}`;
}

function nameOf({ model, kind, layer }: { model: string; kind: string; layer: number | null }): string {
  return layer === null ? `${model}:${kind}` : `${model}:${kind}.${layer}`;
}
