import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";

import { isRowInvariant } from "../../src/engine/execute/row-invariance.ts";
import type { OnnxModel, TensorInfo } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { fixtureModels, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

let split: SplitFixtures;
beforeAll(async () => (split = await splitFixtures(fixtureModels())), 60_000);
afterAll(async () => split.remove());

/**
 * int4 without accuracy level 4, or with a group index: one row takes another kernel than several. int8 dynamic: one scale
 * per call. bnb4: not measured.
 */
const RUN_APART = [
  "exports/genai_v0.18.0/llama-gptq-act-cpu-int4",
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

describe.each([2, 4, 8])("MatMulNBits of %i bits and accuracy level 4", (bits) => {
  it.each([16, 32, 64, 128, 256])(
    "shares batches in blocks of %i only if the kernel keeps a row's bits",
    async (size) => {
      const model = productInBlocks(bits, size);
      if (!isRowInvariant(model)) return;
      expect(await rowsAlone(model)).toEqual(await rowsTogether(model));
    },
  );

  it("runs apart in blocks of 256", () => expect(isRowInvariant(productInBlocks(bits, 256))).toBe(false));
});

const ROWS = 7;
const WIDTH = 256;

async function rowsTogether(model: OnnxModel): Promise<number[]> {
  return await multiply(model, [rowsOfNoise()]);
}

async function rowsAlone(model: OnnxModel): Promise<number[]> {
  const all = rowsOfNoise();
  return await multiply(
    model,
    Array.from({ length: ROWS }, (_, row) => all.slice(row * WIDTH, (row + 1) * WIDTH)),
  );
}

async function multiply(model: OnnxModel, calls: Float32Array[]): Promise<number[]> {
  const session = await InferenceSession.create(writeModel(model), { intraOpNumThreads: 1 });
  const results: number[] = [];
  for (const rows of calls) {
    const { y } = await session.run({ x: new Tensor("float32", rows, [1, rows.length / WIDTH, WIDTH]) });
    results.push(...(y!.data as Float32Array));
  }
  await session.release();
  return results;
}

function rowsOfNoise(): Float32Array {
  return Float32Array.from({ length: ROWS * WIDTH }, (_, i) => Math.sin(i * i + 1));
}

/** [rows, 256] × [256, 32] in blocks of `size` numbers of `bits` bits. */
function productInBlocks(bits: number, size: number): OnnxModel {
  const blocks = Math.ceil(WIDTH / size);
  const packed = Uint8Array.from({ length: (32 * blocks * size * bits) / 8 }, (_, i) => (i * 151 + 7) % 256);
  const scales = Float32Array.from({ length: 32 * blocks }, (_, i) => 0.01 + (i % 13) / 1000);
  const tensor = (
    name: string,
    dtype: "uint8" | "float32",
    dims: number[],
    bytes: Uint8Array,
  ): [string, TensorInfo] => [name, { name, dtype, dims, data: { kind: "bytes", bytes } }];
  const initializers = new Map([
    tensor("w", "uint8", [32, blocks, (size * bits) / 8], packed),
    tensor("s", "float32", [32, blocks], new Uint8Array(scales.buffer)),
  ]);
  const attributes = { K: WIDTH, N: 32, bits, block_size: size, accuracy_level: 4 };
  const node = {
    ...nodeOf("com.microsoft:MatMulNBits x,w,s y"),
    attributes: new Map(Object.entries(attributes).map(([name, value]) => [name, { kind: "int" as const, value }])),
  };
  const inputs = [{ name: "x", dtype: "float32" as const, dims: [1, null, WIDTH] }];
  const outputs = [{ name: "y", dtype: "float32" as const, dims: null }];
  return {
    irVersion: 10,
    producer: "",
    opsets: new Map([
      ["", 21],
      ["com.microsoft", 1],
    ]),
    functions: new Map(),
    graph: { name: "g", nodes: [node], initializers, inputs, outputs },
  };
}

/** "operator inputs output" */
function nodeOf(text: string): OnnxModel["graph"]["nodes"][number] {
  const [operator, inputs, output] = text.split(" ") as [string, string, string];
  const [opType, domain = ""] = operator.split(":").toReversed() as [string, string?];
  return { name: output, opType, domain, inputs: inputs.split(","), outputs: [output], attributes: new Map() };
}
