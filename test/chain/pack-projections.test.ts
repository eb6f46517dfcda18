import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { packProjections } from "../../src/chain/pack-projections.ts";
import type { OnnxModel, TensorInfo } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { readTensor } from "../../src/onnx/tensor-data.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

const MODELS = ["desk/optimum/base", "exports/genai/llama-cpu-int4", "exports/optimum/qwen3"];

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures(MODELS);
});
afterAll(async () => await split.remove());

describe.each(MODELS)("%s", (path) => {
  it("gives the same bits with its projections packed, one row or several", async () => {
    const kinds = new Map((await split.blocks(path)).map((block) => [block.kind, block]));
    let packedProjections = 0;
    for (const kind of ["attention", "mlp"] as const) {
      const part = kinds.get(kind)!.parts[0]!;
      const plain = await readModel(split.repository.blobs.path(part.graph));
      const packed = packProjections(plain);
      packedProjections += countProjections(plain) - countProjections(packed);
      for (const rows of [1, 2, 7]) {
        const feeds = Object.fromEntries(part.inputs.map(({ name, width }) => [name, rowsOf(rows, width)]));
        expect(await run(packed, feeds)).toEqual(await run(plain, feeds));
      }
    }
    expect(packedProjections).toBe(3);
  });
});

it("leaves a weight alone that something else takes, too", async () => {
  const block = (await split.blocks(MODELS[0]!)).find(({ kind }) => kind === "mlp")!;
  const plain = await readModel(split.repository.blobs.path(block.parts[0]!.graph));
  const matrix = plain.graph.nodes.find(({ opType }) => opType === "MatMul")!.inputs[1]!;
  const other = { ...plain.graph.nodes[0]!, opType: "Identity", inputs: [matrix], outputs: ["copy"], name: "copy" };
  const tied = { ...plain, graph: { ...plain.graph, nodes: [...plain.graph.nodes, other] } };
  expect(packProjections(tied).graph.initializers.has(matrix)).toBe(true);
});

function countProjections({ graph }: OnnxModel): number {
  return graph.nodes.filter(({ opType }) => opType.startsWith("MatMul")).length;
}

function rowsOf(rows: number, width: number): Tensor {
  const values = Float32Array.from({ length: rows * width }, (_, at) => Math.sin(at * 1.7) / 2);
  return new Tensor("float32", values, [1, rows, width]);
}

async function run(model: OnnxModel, feeds: Record<string, Tensor>): Promise<Record<string, unknown>> {
  const session = await InferenceSession.create(
    writeModel(inMemory(model), () => null),
    { intraOpNumThreads: 2 },
  );
  const outputs = await session.run(feeds);
  await session.release();
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
}

function inMemory(model: OnnxModel): OnnxModel {
  const whole = (tensor: TensorInfo): TensorInfo => ({ ...tensor, data: { kind: "bytes", bytes: readTensor(tensor) } });
  const initializers = new Map([...model.graph.initializers].map(([name, tensor]) => [name, whole(tensor)]));
  return { ...model, graph: { ...model.graph, initializers } };
}
