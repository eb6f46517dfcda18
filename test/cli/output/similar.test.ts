import { expect, it } from "vitest";
import { printSimilar } from "../../../src/cli/output/similar.ts";
import type { Neighbour, SimilarBlocks } from "../../../src/store/find-similar.ts";

const BLOCK: SimilarBlocks["block"] = {
  model: "base",
  kind: "mlp",
  layer: 3,
  digest: `sha256:${"ab".repeat(32)}`,
  bytes: 3000,
  exporter: "optimum",
};
const SAME = { name: "gate.weight", dims: [4, 4], same: true, weight_cosine: 1, relative_delta: 0, max_abs_delta: 0 };
const OTHER = { ...SAME, name: "down.weight", same: false, weight_cosine: 0.9, relative_delta: 0.4, max_abs_delta: 1 };

function why(more: Partial<Neighbour>): string {
  const neighbour: Neighbour = {
    digest: `sha256:${"cd".repeat(32)}`,
    bytes: 3000,
    places: [{ model: "legal", kind: "mlp", layer: 3 }],
    same_digest: false,
    sketch_distance: 12,
    estimated_cosine: 0.99,
    shared_tensors: 1,
    shared_tensor_bytes: 2000,
    same_function: true,
    exporters: ["optimum"],
    low_rank: null,
    weight_cosine: 0.95,
    relative_delta: 0.3,
    tensors: [SAME, OTHER],
    ...more,
  };
  const [, line] = printSimilar({ block: BLOCK, candidates: 2, neighbours: [neighbour] }).split("\n");
  return line!.split(/ {2,}/).at(-1)!;
}

it.each<[string, Partial<Neighbour>]>([
  ["the same block (same digest)", { same_digest: true }],
  ["the same block (same digest), also exported by genai", { same_digest: true, exporters: ["optimum", "genai"] }],
  ["the same weights in another graph, also exported by genai", { tensors: [SAME], exporters: ["genai"] }],
  ["a merged LoRA: one weight differs, to rounding by rank 8", { low_rank: { rank: 8, exact: true, tensors: 1 } }],
  ["a merged LoRA: one weight differs, nearly by rank 16", { low_rank: { rank: 16, exact: false, tensors: 1 } }],
  [
    "a merged LoRA: 2 weights differ, 1 of them to rounding by rank 8",
    { tensors: [OTHER, OTHER], low_rank: { rank: 8, exact: true, tensors: 1 } },
  ],
  ["1 weight shared (2.00 kB), 1 not; down.weight differs most, by 0.4", {}],
  ["every weight differs; down.weight differs most, by 0.4", { tensors: [OTHER], shared_tensors: 0 }],
  [
    "unrelated weights; down.weight differs most, by 0.4, and the graphs differ",
    { tensors: [OTHER], shared_tensors: 0, weight_cosine: 0.02, same_function: false },
  ],
])("says: %s", (text, neighbour) => {
  expect(why(neighbour)).toBe(text);
});

it("says when there is nothing to compare with", () => {
  expect(printSimilar({ block: BLOCK, candidates: 1, neighbours: [] })).toContain("base:mlp.3");
});
