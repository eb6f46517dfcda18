import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { liftTables } from "../../src/chain/lift-tables.ts";
import type { GraphNode, OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

/** Tables by ids alone, in half precision, with positions, with positions from the third row, and in integers. */
const MODELS = [
  "desk/optimum/base",
  "exports/contrib/gpt2-fp16",
  "exports/optimum/gpt2",
  "exports/optimum/opt",
  "exports/genai/llama_tied-cpu-int4-shared",
];

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures(MODELS);
}, 240_000);
afterAll(async () => await split.remove());

describe("the embedding of", () => {
  it.each(MODELS)("%s loses its float tables and nothing else", async (path) => {
    const [embedding] = await split.blocks(path);
    const plain = await readModel(split.repository.blobs.path(embedding!.parts[0]!.graph));
    const { model, lifted } = liftTables(plain);
    const lookups = plain.graph.nodes.filter(
      (node) => node.opType === "Gather" && isFloatTable(plain, node.inputs[0]!),
    );
    expect(lifted.map(({ table }) => table.name)).toEqual(lookups.map(({ inputs }) => inputs[0]));
    expect(
      model.graph.nodes.filter((node) => node.opType === "Gather" && isFloatTable(model, node.inputs[0]!)),
    ).toEqual([]);
    expect(model.graph.outputs).toEqual(plain.graph.outputs);
    expect(model.graph.inputs.map(({ name }) => name)).toEqual(
      expect.arrayContaining(lifted.map(({ input }) => input)),
    );
  });
});

it("a weight that something else takes stays in the graph", async () => {
  const [embedding] = await split.blocks("desk/optimum/base");
  const plain = await readModel(split.repository.blobs.path(embedding!.parts[0]!.graph));
  const [table] = plain.graph.nodes.find(({ opType }) => opType === "Gather")!.inputs as [string];
  const other: GraphNode = { ...plain.graph.nodes[0]!, opType: "Identity", inputs: [table], outputs: ["copy"] };
  const graph = {
    ...plain.graph,
    nodes: [...plain.graph.nodes, other],
    outputs: [...plain.graph.outputs, { name: "copy", dtype: "float32" as const, dims: null }],
  };
  const { model, lifted } = liftTables({ ...plain, graph });
  expect(lifted).toHaveLength(1);
  expect(model.graph.initializers.has(table)).toBe(true);
});

it("a graph without tables is the graph it was", async () => {
  const head = (await split.blocks("desk/optimum/base")).at(-1)!;
  const plain = await readModel(split.repository.blobs.path(head.parts[0]!.graph));
  expect(liftTables(plain)).toEqual({ model: plain, lifted: [] });
});

function isFloatTable({ graph }: OnnxModel, name: string): boolean {
  const table = graph.initializers.get(name);
  return table !== undefined && table.dims.length === 2 && /float/.test(table.dtype);
}
