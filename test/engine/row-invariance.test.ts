import { afterAll, beforeAll, expect, test } from "vitest";
import { isRowInvariant } from "../../src/engine/execute/row-invariance.ts";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { fixtureModels, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

let split: SplitFixtures;
beforeAll(async () => (split = await splitFixtures(fixtureModels())), 60_000);
afterAll(async () => split.remove());

/** int4 without accuracy level 4: one row takes another kernel than several. int8 dynamic: one scale per call. bnb4: not measured. */
const RUN_APART = ["exports/tjs/model_bnb4", "exports/tjs/model_q4", "exports/tjs/model_quantized"];

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

test.each([
  ["an operator that is not known to be", "MysteryNorm", "", false],
  ["a contrib operator under the name of a known one", "MatMul", "com.example", false],
  ["a matrix product", "MatMul", "", true],
])("%s", (_, opType, domain, expected) => {
  const node = { name: "", opType, domain, inputs: ["x"], outputs: ["y"], attributes: new Map() };
  const graph: OnnxModel["graph"] = { name: "g", nodes: [node], initializers: new Map(), inputs: [], outputs: [] };
  expect(isRowInvariant({ irVersion: 10, producer: "", opsets: new Map(), graph, functions: new Map() })).toBe(
    expected,
  );
});
