import type { OnnxModel, ValueInfo } from "../../src/onnx/model.ts";
import { GraphBuilder, numbers } from "./graph-builder.ts";

export const TINY = { layers: 2, hidden: 16, heads: 4, kvHeads: 2, size: 8, vocab: 40, contextLength: 128 };

/** Names of the values that a changed step may use. */
export interface Values {
  layer: number;
  /** int64 [1, S] */
  positions: string;
  /** int64 scalars: cached tokens, new tokens, both. */
  past: string;
  sequence: string;
  total: string;
  /** Rows of the embedding, [1, S, hidden]. */
  embedding: string;
}

type Step = (g: GraphBuilder, value: string, values: Values) => string;

/** Steps of the decoder that a test replaces; each takes the value as it is and gives the one to go on with. */
export interface Changes {
  /** float32 [1, S, 1] */
  positions?: Step;
  /** float32 [1, 1, S, size / 2], radians. */
  angles?: Step;
  /** cos and sin, float32 [1, 1, S, size]. */
  cos?: Step;
  sin?: Step;
  /** [1, heads, S, size], before its rotation. */
  projectedQuery?: Step;
  /** [1, heads or kvHeads, S, size], rotated. */
  query?: Step;
  newKey?: Step;
  newValue?: Step;
  /** What attention reads and what the outputs give, [1, kvHeads, T, size]. */
  attendedKey?: Step;
  attendedValue?: Step;
  presentKey?: Step;
  presentValue?: Step;
  /** Keys and values, [1, heads, T, size], each head of the cache repeated for its group. */
  repeat?: Step;
  /** Additive, float32 [1, 1, S, T]. */
  mask?: Step;
  /** Before the mask, [1, heads, S, T]. */
  scores?: Step;
  /** [1, S, hidden] after attention, and after the MLP. */
  afterAttention?: Step;
  afterMlp?: Step;
  /** [1, S, vocab] */
  logits?: Step;
}

/** A decoder with rotary embedding, grouped queries, RMS norms and a SiLU MLP, written out in basic operators. */
export function tinyDecoder(changes: Changes = {}): OnnxModel {
  const { layers, hidden, vocab } = TINY;
  const g = new GraphBuilder();
  const past = dimOf(g, "past_key_values.0.key", 2);
  const sequence = dimOf(g, "input_ids", 1);
  const total = g.add("Add", [past, sequence]);
  const table = g.floats(numbers(1, vocab * hidden), [vocab, hidden]);
  const embedding = g.add("Gather", [table, "input_ids"]);
  const values: Values = { layer: 0, positions: "position_ids", past, sequence, total, embedding };
  const change = (step: keyof Changes, value: string, layer = 0): string =>
    changes[step]?.(g, value, { ...values, layer }) ?? value;
  const rotation = makeRotation(g, change);
  const mask = change("mask", causalMask(g, values));
  let stream = embedding;
  for (let layer = 0; layer < layers; layer++) {
    const attended = attention(g, { normed: norm(g, stream, layer * 2), layer, rotation, mask, change });
    stream = change("afterAttention", g.add("Add", [stream, attended]), layer);
    stream = change("afterMlp", g.add("Add", [stream, mlp(g, norm(g, stream, layer * 2 + 1), layer)]), layer);
  }
  const head = g.add("MatMul", [norm(g, stream, 90), g.floats(numbers(91, hidden * vocab), [hidden, vocab])]);
  g.add("Identity", [change("logits", head)], {}, "logits");
  return g.model(...ports());
}

type Change = (step: keyof Changes, value: string, layer?: number) => string;

function makeRotation(g: GraphBuilder, change: Change): { cos: string; sin: string } {
  const { size } = TINY;
  const positions = change("positions", g.add("Unsqueeze", [g.add("Cast", ["position_ids"], { to: 1 }), g.ints([-1])]));
  const frequencies = g.floats(
    Array.from({ length: size / 2 }, (_, i) => 10_000 ** ((-2 * i) / size)),
    [1, size / 2],
  );
  const angles = change("angles", g.add("Unsqueeze", [g.add("Mul", [positions, frequencies]), g.ints([1])]));
  const wide = g.add("Concat", [angles, angles], { axis: -1 });
  return { cos: change("cos", g.add("Cos", [wide])), sin: change("sin", g.add("Sin", [wide])) };
}

function causalMask(g: GraphBuilder, values: Values): string {
  const { queries, keys } = maskAxes(g, values);
  return additive(g, g.add("LessOrEqual", [keys, queries]));
}

/** Positions of queries [1, 1, S, 1] and of keys [1, 1, 1, T], int64. */
export function maskAxes(g: GraphBuilder, { past, total }: Values): { queries: string; keys: string } {
  const one = g.int(1);
  return {
    queries: g.add("Unsqueeze", [g.add("Range", [past, total, one]), g.ints([0, 1, 3])]),
    keys: g.add("Unsqueeze", [g.add("Range", [g.int(0), total, one]), g.ints([0, 1, 2])]),
  };
}

/** 0 where `visible`, the lowest float32 elsewhere. */
export function additive(g: GraphBuilder, visible: string): string {
  return g.add("Where", [visible, g.float(0), g.float(-3.4028234663852886e38)]);
}

interface AttentionParts {
  normed: string;
  layer: number;
  rotation: { cos: string; sin: string };
  mask: string;
  change: Change;
}

function attention(g: GraphBuilder, { normed, layer, rotation, mask, change }: AttentionParts): string {
  const { hidden, heads, kvHeads, size } = TINY;
  const seed = 100 * (layer + 1);
  const project = (offset: number, count: number): string => {
    const rows = g.add("MatMul", [
      normed,
      g.floats(numbers(seed + offset, hidden * count * size, 0.5), [hidden, count * size]),
    ]);
    return g.add("Transpose", [g.add("Reshape", [rows, g.ints([0, 0, count, size])])], { perm: [0, 2, 1, 3] });
  };
  const query = change("query", rotated(g, change("projectedQuery", project(0, heads), layer), rotation), layer);
  const newKey = change("newKey", rotated(g, project(1, kvHeads), rotation), layer);
  const newValue = change("newValue", project(2, kvHeads), layer);
  const key = g.add("Concat", [`past_key_values.${layer}.key`, newKey], { axis: 2 });
  const value = g.add("Concat", [`past_key_values.${layer}.value`, newValue], { axis: 2 });
  g.add("Identity", [change("presentKey", key, layer)], {}, `present.${layer}.key`);
  g.add("Identity", [change("presentValue", value, layer)], {}, `present.${layer}.value`);
  const repeated = (step: "attendedKey" | "attendedValue", cached: string): string =>
    change("repeat", repeatHeads(g, change(step, cached, layer)), layer);
  const keys = g.add("Transpose", [repeated("attendedKey", key)], { perm: [0, 1, 3, 2] });
  const scaled = g.add("Mul", [g.add("MatMul", [query, keys]), g.float(1 / Math.sqrt(size))]);
  const scores = g.add("Add", [change("scores", scaled, layer), mask]);
  const output = g.add("MatMul", [g.add("Softmax", [scores], { axis: -1 }), repeated("attendedValue", value)]);
  const rows = g.add("Reshape", [g.add("Transpose", [output], { perm: [0, 2, 1, 3] }), g.ints([0, 0, heads * size])]);
  return g.add("MatMul", [rows, g.floats(numbers(seed + 3, heads * size * hidden, 0.5), [heads * size, hidden])]);
}

/** x·cos + rotate_half(x)·sin */
function rotated(g: GraphBuilder, x: string, { cos, sin }: { cos: string; sin: string }): string {
  const half = TINY.size / 2;
  const slice = (start: number, end: number): string =>
    g.add("Slice", [x, g.ints([start]), g.ints([end]), g.ints([3])]);
  const turned = g.add("Concat", [g.add("Neg", [slice(half, 2 * half)]), slice(0, half)], { axis: -1 });
  return g.add("Add", [g.add("Mul", [x, cos]), g.add("Mul", [turned, sin])]);
}

/** Each head of the cache for its group of query heads, as Hugging Face's repeat_kv does. */
export function repeatHeads(g: GraphBuilder, x: string): string {
  const { heads, kvHeads, size } = TINY;
  const wide = g.add("Expand", [g.add("Unsqueeze", [x, g.ints([2])]), g.ints([1, 1, heads / kvHeads, 1, 1])]);
  return g.add("Reshape", [wide, g.ints([1, heads, -1, size])]);
}

function norm(g: GraphBuilder, x: string, seed: number): string {
  const variance = g.add("ReduceMean", [g.add("Pow", [x, g.float(2)]), g.ints([-1])], { keepdims: 1 });
  const root = g.add("Sqrt", [g.add("Add", [variance, g.float(1e-6)])]);
  const normed = g.add("Mul", [x, g.add("Div", [g.float(1), root])]);
  return g.add("Mul", [normed, g.floats(numbers(seed + 50, TINY.hidden).map((each) => 1 + each / 4))]);
}

function mlp(g: GraphBuilder, x: string, layer: number): string {
  const { hidden } = TINY;
  const weight = (offset: number, dims: number[]): string =>
    g.floats(numbers(500 + layer * 10 + offset, dims[0]! * dims[1]!, 0.5), dims);
  const gate = g.add("MatMul", [x, weight(0, [hidden, 24])]);
  const up = g.add("MatMul", [x, weight(1, [hidden, 24])]);
  const active = g.add("Mul", [gate, g.add("Sigmoid", [gate])]);
  return g.add("MatMul", [g.add("Mul", [active, up]), weight(2, [24, hidden])]);
}

/** One axis of a value's shape, as an int64 scalar. */
export function dimOf(g: GraphBuilder, value: string, axis: number): string {
  return g.add("Squeeze", [g.add("Shape", [value], { start: axis, end: axis + 1 })]);
}

function ports(): [ValueInfo[], ValueInfo[]] {
  const { layers, kvHeads, size, vocab } = TINY;
  const caches = (prefix: string, tokens: string): ValueInfo[] =>
    Array.from({ length: layers * 2 }, (_, i) => ({
      name: `${prefix}.${i >> 1}.${i % 2 === 0 ? "key" : "value"}`,
      dtype: "float32",
      dims: ["batch", kvHeads, tokens, size],
    }));
  return [
    [
      ids("input_ids", "sequence"),
      ids("attention_mask", "total"),
      ids("position_ids", "sequence"),
      ...caches("past_key_values", "past"),
    ],
    [{ name: "logits", dtype: "float32", dims: ["batch", "sequence", vocab] }, ...caches("present", "total")],
  ];
}

function ids(name: string, tokens: string): ValueInfo {
  return { name, dtype: "int64", dims: ["batch", tokens] };
}
