import type { Attribute, GraphNode, OnnxModel, TensorInfo, ValueInfo } from "../src/onnx/model.ts";

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

/** Where the bytes of the weights lie, in the order of the list. */
export interface WeightShape {
  name: string;
  dims: number[];
  /** null: no layer's own. */
  layer: number | null;
  fill: "random" | "ones" | "cos" | "sin";
}

/** All weights in the order in which the model uses them. */
export function weightShapes(shapes: Shapes): WeightShape[] {
  const { hidden, layers, headSize, inner, vocabulary, context } = shapes;
  const queryWidth = shapes.heads * headSize;
  const packedWidth = queryWidth + 2 * shapes.keyValueHeads * headSize;
  const perLayer = Array.from({ length: layers }, (_, layer): WeightShape[] => {
    const name = (rest: string): string => `model.layers.${layer}.${rest}.weight`;
    return [
      { name: name("input_layernorm"), dims: [hidden], layer, fill: "ones" },
      { name: name("attn.qkv_proj.MatMul"), dims: [hidden, packedWidth], layer, fill: "random" },
      { name: name("attn.o_proj.MatMul"), dims: [queryWidth, hidden], layer, fill: "random" },
      { name: name("post_attention_layernorm"), dims: [hidden], layer, fill: "ones" },
      { name: name("mlp.gate_proj.MatMul"), dims: [hidden, inner], layer, fill: "random" },
      { name: name("mlp.up_proj.MatMul"), dims: [hidden, inner], layer, fill: "random" },
      { name: name("mlp.down_proj.MatMul"), dims: [inner, hidden], layer, fill: "random" },
    ];
  });
  return [
    { name: "cos_cache", dims: [context, headSize / 2], layer: null, fill: "cos" },
    { name: "sin_cache", dims: [context, headSize / 2], layer: null, fill: "sin" },
    ...perLayer.flat(),
    { name: finalNorm(shapes), dims: [hidden], layer: null, fill: "ones" },
    { name: "lm_head.MatMul.weight", dims: [hidden, vocabulary], layer: null, fill: "random" },
  ];
}

/** The graph as onnxruntime-genai's model builder writes it for CPU in float32 with tied embeddings. */
export function modelGraph(shapes: Shapes, weights: readonly TensorInfo[]): OnnxModel {
  const graph = new GraphBuilder();
  maskNodes(graph);
  graph.add("Transpose", ["lm_head.MatMul.weight"], ["table"], { perm: [1, 0] });
  graph.add("Gather", ["table", "input_ids"], ["embedded"]);
  let residual = "embedded";
  let pending: string | null = null;
  for (let layer = 0; layer < shapes.layers; layer++) {
    const entered = addNorm(graph, { residual, pending, weight: `model.layers.${layer}.input_layernorm.weight` });
    const attended = addAttention(graph, shapes, { layer, input: entered.normed });
    const middle = addNorm(graph, {
      residual: entered.sum,
      pending: attended,
      weight: `model.layers.${layer}.post_attention_layernorm.weight`,
    });
    residual = middle.sum;
    pending = addMlp(graph, { layer, input: middle.normed });
  }
  const { normed } = addNorm(graph, { residual, pending, weight: finalNorm(shapes) });
  graph.add("MatMul", [normed, "lm_head.MatMul.weight"], ["logits"]);
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

class GraphBuilder {
  readonly nodes: GraphNode[] = [];

  add(
    opType: string,
    inputs: string[],
    outputs: string[],
    values: Record<string, number | number[]> = {},
    domain = "",
  ): void {
    const attributes = new Map(Object.entries(values).map(([name, value]) => [name, attributeOf(name, value)]));
    this.nodes.push({ name: `/model/${opType}_${this.nodes.length}`, opType, domain, inputs, outputs, attributes });
  }
}

function attributeOf(name: string, value: number | number[]): Attribute {
  if (Array.isArray(value)) return { kind: "ints", value };
  return name === "epsilon" || name === "scale" || name === "softcap"
    ? { kind: "float", value }
    : { kind: "int", value };
}

/** attention_mask [batch, total] → seqlens_k [batch] and total_sequence_length. */
function maskNodes(graph: GraphBuilder): void {
  const constant = (name: string, dims: number[]): void => {
    const bytes = new Uint8Array(BigInt64Array.of(1n).buffer);
    const value: TensorInfo = { name, dtype: "int64", dims, data: { kind: "bytes", bytes } };
    const attributes = new Map<string, Attribute>([["value", { kind: "tensor", value }]]);
    graph.nodes.push({ name, opType: "Constant", domain: "", inputs: [], outputs: [name], attributes });
  };
  const int32 = 6;
  constant("one_list", [1]);
  constant("one", []);
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

function addAttention(graph: GraphBuilder, shapes: Shapes, { layer, input }: { layer: number; input: string }): string {
  const name = `model.layers.${layer}.attn`;
  const past = ["key", "value"].map((each) => `past_key_values.${layer}.${each}`);
  const present = ["key", "value"].map((each) => `present.${layer}.${each}`);
  graph.add("MatMul", [input, `${name}.qkv_proj.MatMul.weight`], [`${name}.qkv`]);
  graph.add(
    "GroupQueryAttention",
    [`${name}.qkv`, "", "", ...past, "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache", "", "", ""],
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
  graph.add("MatMul", [`${name}.attended`, `${name}.o_proj.MatMul.weight`], [`${name}.out`]);
  return `${name}.out`;
}

function addMlp(graph: GraphBuilder, { layer, input }: { layer: number; input: string }): string {
  const name = `model.layers.${layer}.mlp`;
  graph.add("MatMul", [input, `${name}.gate_proj.MatMul.weight`], [`${name}.gate`]);
  graph.add("MatMul", [input, `${name}.up_proj.MatMul.weight`], [`${name}.up`]);
  graph.add("Sigmoid", [`${name}.gate`], [`${name}.sigmoid`]);
  graph.add("Mul", [`${name}.gate`, `${name}.sigmoid`], [`${name}.active`]);
  graph.add("Mul", [`${name}.active`, `${name}.up`], [`${name}.gated`]);
  graph.add("MatMul", [`${name}.gated`, `${name}.down_proj.MatMul.weight`], [`${name}.out`]);
  return `${name}.out`;
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
