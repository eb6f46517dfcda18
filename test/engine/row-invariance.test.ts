import { afterAll, beforeAll, expect, test } from "vitest";
import { isRowInvariant } from "../../src/engine/execute/row-invariance.ts";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { fixtureModels, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

let split: SplitFixtures;
beforeAll(async () => (split = await splitFixtures(fixtureModels())), 60_000);
afterAll(async () => split.remove());

/** int4 without accuracy level 4: one row takes another kernel than several. int8 dynamic: one scale per call. bnb4: not measured. */
const RUN_APART = [
  "exports/tjs/falcon_quantized",
  "exports/tjs/model_bnb4",
  "exports/tjs/model_q4",
  "exports/tjs/model_quantized",
];

test("the blocks of every cut fixture may run in shared batches, but for the kernels known not to", async () => {
  const apart = new Set<string>();
  for (const [name, { document }] of split.models) {
    if (document.opaque) continue;
    for (const { parts } of await split.blocks(name)) {
      for (const { graph } of parts) {
        if (!isRowInvariant(await readModel(split.repository.blobs.path(graph)))) apart.add(name);
      }
    }
  }
  expect([...apart]).toEqual(RUN_APART);
});

const WEIGHT = {
  name: "w",
  dtype: "float32" as const,
  dims: [2, 2],
  data: { kind: "bytes" as const, bytes: new Uint8Array(16) },
};

test.each<[string, string[], boolean]>([
  ["an operator that is not known to be", ["MysteryNorm x y"], false],
  ["a contrib operator under the name of a known one", ["com.example:MatMul x,w y"], false],
  ["a matrix product", ["MatMul x,w y"], true],
  [
    "a product with a matrix that is known beforehand",
    ["Cast w wide", "Transpose wide turned", "MatMul x,turned y"],
    true,
  ],
  ["a product with a matrix that is not", ["Cast x wide", "MatMul x,wide y"], false],
  ["a product that takes in its dequantisation", ["DequantizeLinear w wide", "MatMul x,wide y"], true],
  ["one that does not", ["DequantizeLinear w wide", "com.microsoft:FusedMatMul x,wide y"], false],
  ["one across a transposition", ["DequantizeLinear w wide", "Transpose wide turned", "MatMul x,turned y"], false],
])("%s", (_, nodes, expected) => {
  const initializers = new Map([["w", WEIGHT]]);
  const graph = { name: "g", nodes: nodes.map(nodeOf), initializers, inputs: [], outputs: [] };
  expect(isRowInvariant({ irVersion: 10, producer: "", opsets: new Map(), graph, functions: new Map() })).toBe(
    expected,
  );
});

/** "operator inputs output" */
function nodeOf(text: string): OnnxModel["graph"]["nodes"][number] {
  const [operator, inputs, output] = text.split(" ") as [string, string, string];
  const [opType, domain = ""] = operator.split(":").toReversed() as [string, string?];
  return { name: output, opType, domain, inputs: inputs.split(","), outputs: [output], attributes: new Map() };
}
