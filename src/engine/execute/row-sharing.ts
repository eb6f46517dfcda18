import type { GraphNode, OnnxGraph, OnnxModel } from "../../onnx/model.ts";
import { measureSharing } from "./measure-product.ts";
import type { BlockProduct, FloatProduct, Product } from "./product-kernel.ts";

/**
 * How rows of several sequences share the runs of a part, each with the bits that it has alone: in any number (1), in an
 * even one, where an odd one is filled up (2), or not at all (null): then each sequence has the runs that it has alone.
 */
export type RowSharing = 1 | 2 | null;

/**
 * Operators whose CPU kernels give a row of [1, N, width] the same bits whatever N is and wherever the row lies, or that
 * only move rows or treat each element by itself. NonZero and ScatterND pick the rows of an expert and put them back; which
 * others it has does not matter to any. Products are measured.
 */
const BY_ROW = new Set(
  `RMSNormalization SimplifiedLayerNormalization LayerNormalization Softmax
  ReduceMean ReduceMax ReduceMin ReduceSum RotaryEmbedding com.microsoft:RotaryEmbedding
  Gather com.microsoft:GatherBlockQuantized GatherElements Reshape Transpose Slice Split Concat Unsqueeze Squeeze Expand
  TopK OneHot NonZero ScatterElements ScatterND ConstantOfShape
  Identity Constant Cast QuantizeLinear DequantizeLinear Shape Where Equal Less Greater LessOrEqual GreaterOrEqual And Or Not
  Add Sub Mul Div Neg Abs Pow Sqrt Reciprocal Exp Log Max Min Clip Round Floor Ceil Sign
  Sigmoid Tanh Erf Relu LeakyRelu Elu Softplus Softsign HardSigmoid HardSwish Mish Swish Gelu com.microsoft:Gelu
  com.microsoft:FastGelu com.microsoft:QuickGelu Sin Cos`.split(/\s+/),
);

export interface SharingOptions {
  threads: number;
  /** Also where a row that is alone becomes much slower for it. */
  always: boolean;
}

/** Of a session over these graphs with so many threads, on this processor. */
export async function rowSharingOf(
  models: readonly OnnxModel[],
  { threads, always }: SharingOptions,
): Promise<RowSharing> {
  let sharing: RowSharing = 1;
  for (const model of models) {
    const products = productsOf(model, always);
    if (products === null) return null;
    for (const product of products) {
      const found = await measureSharing(product, threads);
      if (found === null) return null;
      if (found === 2) sharing = 2;
    }
  }
  return sharing;
}

/** What there is to measure; null: rows stay apart however that comes out. */
export function productsOf({ graph, functions }: OnnxModel, always = false): Product[] | null {
  if (functions.size > 0) return null;
  const products: Product[] = [];
  for (const node of graph.nodes) {
    if (BY_ROW.has(operatorOf(node))) continue;
    const product = productOf(node, graph);
    if (product === null || (!always && isSlowInPairs(product))) return null;
    products.push(product);
  }
  return products;
}

function productOf(node: GraphNode, graph: OnnxGraph): Product | null {
  switch (operatorOf(node)) {
    case "com.microsoft:MatMulNBits":
      return blockProductOf(node, graph);
    case "MatMul":
      return floatProductOf(node, graph) ?? takenInBy(node, graph);
    case "com.microsoft:FusedMatMul":
      return floatProductOf(node, graph);
    default:
      return null;
  }
}

/**
 * At accuracy levels below 4 one row has other bits than two, and two take more than twice the time of one
 * (docs/decisions/2026-11-23-int4-rows-run-apart.md). Not so where columns are grouped: whatever the level, the whole matrix
 * is made floats in each call.
 */
function isSlowInPairs(product: Product): boolean {
  return product.kind === "blocks" && product.accuracyLevel !== 4 && !product.groups;
}

function blockProductOf(node: GraphNode, graph: OnnxGraph): BlockProduct | null {
  const [zeroPoints = "", groups = "", bias = ""] = node.inputs.slice(3);
  if (bias !== "") return null;
  const zeroType = graph.initializers.get(zeroPoints)?.dtype === "uint8" ? "uint8" : "float32";
  return {
    kind: "blocks",
    inner: integerOf(node, "K")!,
    outer: integerOf(node, "N")!,
    bits: integerOf(node, "bits") ?? 4,
    blockSize: integerOf(node, "block_size")!,
    accuracyLevel: integerOf(node, "accuracy_level") ?? 0,
    zeroPoints: zeroPoints === "" ? "none" : zeroType,
    groups: groups !== "",
  };
}

/** A matrix that cannot be packed when the session is made meets one row with another kernel than several. */
function floatProductOf(node: GraphNode, graph: OnnxGraph): FloatProduct | null {
  const matrix = node.inputs[1]!;
  if (!isComputedBeforehand(matrix, graph)) return null;
  const turned = integerOf(node, "transB") === 1;
  return { kind: "floats", turned, dims: graph.initializers.get(matrix)?.dims ?? null };
}

/**
 * ONNX Runtime computes constants beforehand, but not DequantizeLinear: that and a MatMul become one MatMulNBits of level 4,
 * but not across a transposition, and not where the one scale is a vector.
 */
function takenInBy(node: GraphNode, graph: OnnxGraph): BlockProduct | null {
  const source = sourceOf(node.inputs[1]!, graph);
  if (source === undefined || operatorOf(source) !== "DequantizeLinear") return null;
  const [weight, scales, zeroPoints] = source.inputs.map((name) => graph.initializers.get(name));
  if (weight?.dims.length !== 2 || scales?.dims.join() === "1") return null;
  const [inner, outer] = weight.dims as [number, number];
  const bits = weight.dtype.endsWith("int4") ? 4 : 8;
  const blockSize = integerOf(source, "block_size") ?? DEQUANTISED_BLOCKS;
  return {
    kind: "blocks",
    inner,
    outer,
    bits,
    blockSize,
    accuracyLevel: 4,
    zeroPoints: zeroPoints === undefined ? "none" : "uint8",
    groups: false,
  };
}

/** `session.qdq_matmulnbits_block_size`, where the file has one scale per column or matrix. */
const DEQUANTISED_BLOCKS = 32;

function isComputedBeforehand(name: string, graph: OnnxGraph): boolean {
  if (graph.initializers.has(name)) return true;
  const source = sourceOf(name, graph);
  if (source === undefined || operatorOf(source) === "DequantizeLinear") return false;
  return source.inputs.every((input) => input === "" || isComputedBeforehand(input, graph));
}

function sourceOf(name: string, { nodes }: OnnxGraph): GraphNode | undefined {
  return nodes.find(({ outputs }) => outputs.includes(name));
}

function integerOf({ attributes }: GraphNode, name: string): number | null {
  const attribute = attributes.get(name);
  return attribute?.kind === "int" ? attribute.value : null;
}

function operatorOf({ domain, opType }: GraphNode): string {
  return domain === "" ? opType : `${domain}:${opType}`;
}
