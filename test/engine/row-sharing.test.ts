import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";

import { type BlockProduct, productModel } from "../../src/engine/execute/product-kernel.ts";
import { productsOf, rowSharingOf } from "../../src/engine/execute/row-sharing.ts";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { fixtureModels, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

let split: SplitFixtures;
beforeAll(async () => (split = await splitFixtures(fixtureModels())), 60_000);
afterAll(async () => split.remove());

/** int4 without accuracy level 4: rows in pairs take much longer than one. int8 dynamic: one scale per call. bnb4: not measured. */
const RUN_APART = [
  "exports/ort/llama-dynamic-extended",
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
        const part = await readModel(split.repository.blobs.path(graph));
        if ((await rowSharingOf([part], { threads: 2, always: false })) === null) apart.add(name);
      }
    }
  }
  expect([...apart]).toEqual(RUN_APART);
});

test("where batches are always shared, int4 of every accuracy level runs in them", async () => {
  for (const { parts } of await split.blocks("exports/tjs/model_q4"))
    for (const { graph } of parts) {
      const part = await readModel(split.repository.blobs.path(graph));
      expect(await rowSharingOf([part], { threads: 2, always: true })).not.toBeNull();
    }
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
  const products = productsOf({ irVersion: 10, producer: "", opsets: new Map(), graph, functions: new Map() });
  expect(products !== null).toBe(expected);
});

describe.each([2, 4, 8])("products of %i bits and accuracy level 4", (bits) => {
  it.each([16, 32, 64, 128, 256])("in blocks of %i keep a row's bits as was measured", async (blockSize) => {
    const product: BlockProduct = {
      kind: "blocks",
      inner: 576,
      outer: 200,
      bits,
      blockSize,
      accuracyLevel: 4,
      zeroPoints: "uint8",
      groups: false,
    };
    const { model } = productModel(product);
    const sharing = await rowSharingOf([model], { threads: 2, always: false });
    const together = await multiply(model, [ROWS]);
    const apart = await multiply(
      model,
      Array.from({ length: ROWS / (sharing ?? 2) }, () => sharing ?? 2),
    );
    expect(apart.join() === together.join()).toBe(sharing !== null);
  });
});

const ROWS = 14;

/** Rows of noise in calls of so many each; the bits of what comes out, in order. */
async function multiply(model: OnnxModel, counts: number[]): Promise<number[]> {
  const session = await InferenceSession.create(writeModel(model), { intraOpNumThreads: 2 });
  const width = model.graph.inputs[0]!.dims![2] as number;
  const rows = Float32Array.from({ length: ROWS * width }, (_, i) => Math.sin(i * i + 1));
  const results: number[] = [];
  let first = 0;
  for (const count of counts) {
    const x = new Tensor("float32", rows.subarray(first * width, (first + count) * width), [1, count, width]);
    const { data } = (await session.run({ x }))["y"]!;
    results.push(...new Uint32Array((data as Float32Array).slice().buffer));
    first += count;
  }
  await session.release();
  return results;
}

/** "operator inputs output" */
function nodeOf(text: string): OnnxModel["graph"]["nodes"][number] {
  const [operator, inputs, output] = text.split(" ") as [string, string, string];
  const [opType, domain = ""] = operator.split(":").toReversed() as [string, string?];
  return { name: output, opType, domain, inputs: inputs.split(","), outputs: [output], attributes: new Map() };
}
