import { Tensor } from "onnxruntime-node";

import { ADAPTER_INPUT, attachFactors, type AttachedFactors } from "../src/chain/attach-factors.ts";
import { fuseParts } from "../src/chain/fuse-parts.ts";
import { packProjections } from "../src/chain/pack-projections.ts";
import type { Attribute, GraphNode, OnnxModel, TensorInfo } from "../src/onnx/model.ts";
import { SMOLLM2_135M } from "./model-graph.ts";

const { hidden, inner, heads, keyValueHeads, headSize } = SMOLLM2_135M;
const QUERIES = heads * headSize;
const KEYS = keyValueHeads * headSize;
const RANK = 8;

/** Projections of a layer's segment, from one attention core to the next: [in, out]. */
const PROJECTIONS = {
  o: [QUERIES, hidden],
  gate: [hidden, inner],
  up: [hidden, inner],
  down: [inner, hidden],
  q: [hidden, QUERIES],
  k: [hidden, KEYS],
  v: [hidden, KEYS],
} as const;

export const LAYER_BYTES = Object.values(PROJECTIONS).reduce((sum, [from, to]) => sum + from * to * 4, 0);

/** The segment as the engine loads it, with so many adapters of rank 8 on every projection. */
export function layerModel(layer: number, adapters: number): OnnxModel {
  const initializers = new Map<string, TensorInfo>();
  const put = (tensor: TensorInfo): void => void initializers.set(tensor.name, tensor);
  Object.entries(PROJECTIONS).forEach(([name, [from, to]], at) =>
    put(random(`${name}.weight`, [from, to], layer * 100 + at)),
  );
  put(floats("norm", [hidden], new Float32Array(hidden).fill(1)));
  const plain: OnnxModel = {
    irVersion: 10,
    producer: "bench",
    opsets: new Map([
      ["", 24],
      ["com.microsoft", 1],
    ]),
    functions: new Map(),
    graph: {
      name: "layer",
      nodes: layerNodes(),
      initializers,
      inputs: [row("hidden", hidden), row("o", QUERIES), row("cos", headSize / 2), row("sin", headSize / 2)],
      outputs: [row("hidden_out", hidden), row("q", QUERIES), row("k", KEYS), row("v", KEYS)],
    },
  };
  return packProjections(fuseParts([attachFactors(plain, adapters === 0 ? [] : factorsOf(layer, adapters))]));
}

/** Adapters in turn, two rows each, then rows without. */
export function layerFeeds(rows: number, adapters: number): Record<string, Tensor> {
  const of = (width: number, seed: number): Tensor =>
    new Tensor("float32", randomValues(rows * width, seed), [1, rows, width]);
  const feeds = { hidden: of(hidden, 1), o: of(QUERIES, 2), cos: of(headSize / 2, 3), sin: of(headSize / 2, 4) };
  if (adapters === 0) return feeds;
  const choices = BigInt64Array.from({ length: rows }, (_, at) => BigInt(at < 2 * adapters ? 1 + (at >> 1) : 0));
  return { ...feeds, [ADAPTER_INPUT]: new Tensor("int64", choices, [1, rows]) };
}

function layerNodes(): GraphNode[] {
  const nodes: GraphNode[] = [];
  const add = (opType: string, inputs: string[], output: string, attributes: Record<string, Attribute> = {}): void =>
    void nodes.push({
      name: output,
      opType,
      domain: "",
      inputs,
      outputs: [output],
      attributes: new Map(Object.entries(attributes)),
    });
  const project = (input: string, name: keyof typeof PROJECTIONS, output: string): void =>
    add("MatMul", [input, `${name}.weight`], output);
  const norm = (input: string, output: string): void =>
    add("RMSNormalization", [input, "norm"], output, {
      axis: { kind: "int", value: -1 },
      epsilon: { kind: "float", value: Math.fround(1e-5) },
    });
  const rotate = (input: string, output: string, count: number): void =>
    add("RotaryEmbedding", [input, "cos", "sin"], output, { num_heads: { kind: "int", value: count } });
  project("o", "o", "attended");
  add("Add", ["hidden", "attended"], "middle");
  norm("middle", "mlp_in");
  project("mlp_in", "gate", "gated");
  project("mlp_in", "up", "upped");
  add("Sigmoid", ["gated"], "sigmoid");
  add("Mul", ["gated", "sigmoid"], "active");
  add("Mul", ["active", "upped"], "product");
  project("product", "down", "mlp_out");
  add("Add", ["middle", "mlp_out"], "hidden_out");
  norm("hidden_out", "attention_in");
  project("attention_in", "q", "plain_q");
  project("attention_in", "k", "plain_k");
  project("attention_in", "v", "v");
  rotate("plain_q", "q", heads);
  rotate("plain_k", "k", keyValueHeads);
  return nodes;
}

/** Side by side, as stackFactors lays them out. */
function factorsOf(layer: number, adapters: number): AttachedFactors[] {
  const rank = RANK * adapters;
  const mask = new Uint8Array((adapters + 1) * rank);
  for (let adapter = 0; adapter < adapters; adapter++) {
    const start = (adapter + 1) * rank + adapter * RANK;
    mask.fill(1, start, start + RANK);
  }
  const columns: TensorInfo = {
    name: "",
    dtype: "bool",
    dims: [adapters + 1, rank],
    data: { kind: "bytes", bytes: mask },
  };
  return Object.entries(PROJECTIONS).map(([name, [from, to]], at) => ({
    weight: `${name}.weight`,
    down: random("", [from, rank], layer * 100 + 50 + at),
    up: random("", [rank, to], layer * 100 + 70 + at),
    columns,
  }));
}

function row(name: string, width: number): { name: string; dtype: "float32"; dims: (number | string)[] } {
  return { name, dtype: "float32", dims: [1, "N", width] };
}

function random(name: string, dims: [number, number], seed: number): TensorInfo {
  return floats(name, dims, randomValues(dims[0] * dims[1], seed));
}

function floats(name: string, dims: number[], values: Float32Array): TensorInfo {
  return { name, dtype: "float32", dims, data: { kind: "bytes", bytes: new Uint8Array(values.buffer) } };
}

function randomValues(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = Math.imul(seed + 1, 2654435761) >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 - 0.5) * 0.1;
  });
}
