import type { OnnxModel, TensorInfo, ValueInfo } from "../src/onnx/model.ts";
import { GraphBuilder } from "./graph-builder.ts";
import {
  addLinear,
  addTiedEmbedding,
  linearWeights,
  type GraphForm,
  type Linear,
  type Precision,
  type WeightShape,
} from "./model-linear.ts";

export interface Shapes {
  hidden: number;
  layers: number;
  heads: number;
  keyValueHeads: number;
  headSize: number;
  inner: number;
  vocabulary: number;
  context: number;
}

/** HuggingFaceTB/SmolLM2-135M; embedding and head are one tensor. */
export const SMOLLM2_135M: Shapes = {
  hidden: 576,
  layers: 30,
  heads: 9,
  keyValueHeads: 3,
  headSize: 64,
  inner: 1536,
  vocabulary: 49152,
  context: 8192,
};

/** The projections of a layer by their short names. */
export type LayerLinears = Record<"qkv" | "q" | "k" | "v" | "o" | "gate" | "up" | "down", Linear>;

export function layerLinears(shapes: Shapes, layer: number): LayerLinears {
  const { hidden, inner } = shapes;
  const { query, keyValue } = rowWidths(shapes);
  const linear = (rest: string, widths: [number, number]): Linear => ({
    name: `model.layers.${layer}.${rest}`,
    widths,
    layer,
  });
  return {
    qkv: linear("attn.qkv_proj", [hidden, query + 2 * keyValue]),
    q: linear("attn.q_proj", [hidden, query]),
    k: linear("attn.k_proj", [hidden, keyValue]),
    v: linear("attn.v_proj", [hidden, keyValue]),
    o: linear("attn.o_proj", [query, hidden]),
    gate: linear("mlp.gate_proj", [hidden, inner]),
    up: linear("mlp.up_proj", [hidden, inner]),
    down: linear("mlp.down_proj", [inner, hidden]),
  };
}

/** What projections that LoRAs usually train: q, k and v apart. */
export function adaptedLinears(shapes: Shapes): Linear[] {
  return Array.from({ length: shapes.layers }, (_, layer) => {
    const { qkv: _packed, ...adapted } = layerLinears(shapes, layer);
    return Object.values(adapted);
  }).flat();
}

function headLinear({ hidden, vocabulary }: Shapes): Linear {
  return { name: "lm_head", widths: [hidden, vocabulary], layer: null };
}

function rowWidths({ heads, keyValueHeads, headSize }: Shapes): { query: number; keyValue: number } {
  return { query: heads * headSize, keyValue: keyValueHeads * headSize };
}

/** All weights in the order in which the model uses them. */
export function weightShapes(shapes: Shapes, precision: Precision = "fp32"): WeightShape[] {
  const { hidden, layers, headSize, context } = shapes;
  const plain = (name: string, layer: number | null, dims: number[], fill: WeightShape["fill"]): WeightShape => ({
    name,
    dtype: "float32",
    dims,
    layer,
    fill,
  });
  const perLayer = Array.from({ length: layers }, (_, layer): WeightShape[] => {
    const { qkv, o, gate, up, down } = layerLinears(shapes, layer);
    const norm = (rest: string): WeightShape => plain(`model.layers.${layer}.${rest}.weight`, layer, [hidden], "ones");
    const weights = (linears: Linear[]): WeightShape[] => linears.flatMap((linear) => linearWeights(linear, precision));
    return [
      norm("input_layernorm"),
      ...weights([qkv, o]),
      norm("post_attention_layernorm"),
      ...weights([gate, up, down]),
    ];
  });
  return [
    plain("cos_cache", null, [context, headSize / 2], "cos"),
    plain("sin_cache", null, [context, headSize / 2], "sin"),
    ...perLayer.flat(),
    plain(finalNorm(shapes), null, [hidden], "ones"),
    ...linearWeights(headLinear(shapes), precision),
  ];
}

/**
 * The graph as onnxruntime-genai's model builder writes it for CPU with tied embeddings. With factors: q, k and v are
 * projections of their own, and `weights` has theirs.
 */
export function modelGraph(
  shapes: Shapes,
  weights: readonly TensorInfo[],
  form: GraphForm = { precision: "fp32", factors: false },
): OnnxModel {
  const graph = new GraphBuilder();
  maskNodes(graph);
  let residual = addTiedEmbedding(graph, { head: headLinear(shapes), precision: form.precision });
  let pending: string | null = null;
  for (let layer = 0; layer < shapes.layers; layer++) {
    const entered = addNorm(graph, { residual, pending, weight: `model.layers.${layer}.input_layernorm.weight` });
    const attended = addAttention(graph, shapes, { layer, input: entered.normed, form });
    const middle = addNorm(graph, {
      residual: entered.sum,
      pending: attended,
      weight: `model.layers.${layer}.post_attention_layernorm.weight`,
    });
    residual = middle.sum;
    pending = addMlp(graph, shapes, { layer, input: middle.normed, form });
  }
  const { normed } = addNorm(graph, { residual, pending, weight: finalNorm(shapes) });
  addLinear(graph, { input: normed, linear: headLinear(shapes), form });
  return {
    irVersion: 10,
    producer: "onnxruntime-genai",
    opsets: new Map([
      ["", 21],
      ["com.microsoft", 1],
    ]),
    graph: {
      name: "main_graph",
      nodes: graph.nodes,
      initializers: new Map(weights.map((weight) => [weight.name, weight])),
      ...modelPorts(shapes),
    },
    functions: new Map(),
  };
}

function finalNorm({ layers }: Shapes): string {
  return `model.layers.${layers}.final_norm_layernorm.weight`;
}

/** attention_mask [batch, total] → seqlens_k [batch] and total_sequence_length. */
function maskNodes(graph: GraphBuilder): void {
  const int32 = 6;
  graph.constant("one_list", [1], [1]);
  graph.constant("one", [], [1]);
  graph.add("ReduceSum", ["attention_mask", "one_list"], ["lengths"], { keepdims: 0 });
  graph.add("Sub", ["lengths", "one_list"], ["lengths_less_one"]);
  graph.add("Cast", ["lengths_less_one"], ["seqlens_k"], { to: int32 });
  graph.add("Shape", ["attention_mask"], ["mask_shape"]);
  graph.add("Gather", ["mask_shape", "one"], ["total"], { axis: 0 });
  graph.add("Cast", ["total"], ["total_sequence_length"], { to: int32 });
}

function addNorm(
  graph: GraphBuilder,
  { residual, pending, weight }: { residual: string; pending: string | null; weight: string },
): { normed: string; sum: string } {
  const normed = `${weight}.normed`;
  if (pending === null) {
    graph.add("SimplifiedLayerNormalization", [residual, weight], [normed], { epsilon: 1e-5, axis: -1, stash_type: 1 });
    return { normed, sum: residual };
  }
  const sum = `${weight}.sum`;
  graph.add(
    "SkipSimplifiedLayerNormalization",
    [residual, pending, weight],
    [normed, "", "", sum],
    { epsilon: 1e-5 },
    "com.microsoft",
  );
  return { normed, sum };
}

interface LayerInput {
  layer: number;
  input: string;
  form: GraphForm;
}

function addAttention(graph: GraphBuilder, shapes: Shapes, { layer, input, form }: LayerInput): string {
  const { qkv, q, k, v, o } = layerLinears(shapes, layer);
  const name = `model.layers.${layer}.attn`;
  const past = ["key", "value"].map((each) => `past_key_values.${layer}.${each}`);
  const present = ["key", "value"].map((each) => `present.${layer}.${each}`);
  const project = (linear: Linear): string => addLinear(graph, { input, linear, form });
  const queries = form.factors ? [q, k, v].map(project) : [project(qkv), "", ""];
  graph.add(
    "GroupQueryAttention",
    [...queries, ...past, "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache", "", "", ""],
    [`${name}.attended`, ...present],
    {
      num_heads: shapes.heads,
      kv_num_heads: shapes.keyValueHeads,
      scale: 1 / Math.sqrt(shapes.headSize),
      local_window_size: -1,
      softcap: 0,
      do_rotary: 1,
      rotary_interleaved: 0,
    },
    "com.microsoft",
  );
  return addLinear(graph, { input: `${name}.attended`, linear: o, form });
}

function addMlp(graph: GraphBuilder, shapes: Shapes, { layer, input, form }: LayerInput): string {
  const name = `model.layers.${layer}.mlp`;
  const { gate, up, down } = layerLinears(shapes, layer);
  const [gated, raised] = [gate, up].map((linear) => addLinear(graph, { input, linear, form })) as [string, string];
  graph.add("Sigmoid", [gated], [`${name}.sigmoid`]);
  graph.add("Mul", [gated, `${name}.sigmoid`], [`${name}.active`]);
  graph.add("Mul", [`${name}.active`, raised], [`${name}.gated`]);
  return addLinear(graph, { input: `${name}.gated`, linear: down, form });
}

function modelPorts({ layers, keyValueHeads, headSize, vocabulary }: Shapes): {
  inputs: ValueInfo[];
  outputs: ValueInfo[];
} {
  const cache = (prefix: string, length: string): ValueInfo[] =>
    Array.from({ length: layers }, (_, layer) => layer).flatMap((layer) =>
      ["key", "value"].map((each): ValueInfo => ({
        name: `${prefix}.${layer}.${each}`,
        dtype: "float32",
        dims: ["batch_size", keyValueHeads, length, headSize],
      })),
    );
  return {
    inputs: [
      { name: "input_ids", dtype: "int64", dims: ["batch_size", "sequence_length"] },
      { name: "attention_mask", dtype: "int64", dims: ["batch_size", "total_sequence_length"] },
      ...cache("past_key_values", "past_sequence_length"),
    ],
    outputs: [
      { name: "logits", dtype: "float32", dims: ["batch_size", "sequence_length", vocabulary] },
      ...cache("present", "total_sequence_length"),
    ],
  };
}
