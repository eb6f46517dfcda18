import type { GraphNode, OnnxGraph, OnnxModel } from "../../onnx/model.ts";

/**
 * Operators whose CPU kernels in ONNX Runtime 1.30 give a row of [1, N, width] the same bits whatever N is and wherever
 * the row lies (measured), or that only move rows or treat each element by itself. NonZero and ScatterND pick the rows
 * of an expert and put them back; which others it has does not matter to any.
 */
const ROW_INVARIANT = new Set(
  `MatMul com.microsoft:FusedMatMul RMSNormalization SimplifiedLayerNormalization LayerNormalization Softmax
  ReduceMean ReduceMax ReduceMin ReduceSum RotaryEmbedding com.microsoft:RotaryEmbedding
  Gather com.microsoft:GatherBlockQuantized GatherElements Reshape Transpose Slice Split Concat Unsqueeze Squeeze Expand
  TopK OneHot NonZero ScatterElements ScatterND ConstantOfShape
  Identity Constant Cast QuantizeLinear DequantizeLinear Shape Where Equal Less Greater LessOrEqual GreaterOrEqual And Or Not
  Add Sub Mul Div Neg Abs Pow Sqrt Reciprocal Exp Log Max Min Clip Round Floor Ceil Sign
  Sigmoid Tanh Erf Relu LeakyRelu Elu Softplus Softsign HardSigmoid HardSwish Mish Swish Gelu com.microsoft:Gelu
  com.microsoft:FastGelu com.microsoft:QuickGelu Sin Cos`.split(/\s+/),
);

/** Whether rows of several sequences may share one run. If not, each sequence runs by itself, as it does alone. */
export function isRowInvariant({ graph, functions }: OnnxModel): boolean {
  return functions.size === 0 && graph.nodes.every((node) => isInvariantNode(node, graph));
}

function isInvariantNode(node: GraphNode, graph: OnnxGraph): boolean {
  const operator = operatorOf(node);
  if (operator !== "com.microsoft:MatMulNBits") return ROW_INVARIANT.has(operator) && isPackedProduct(node, graph);
  // Other levels, and products by groups of columns, compute one row by another kernel than several.
  const grouped = (node.inputs[4] ?? "") !== "";
  return !grouped && integerOf(node, "accuracy_level") === 4 && isInvariantInBlocks(node);
}

/** Of blocks of other sizes, too, one row has other last bits than among several (measured at accuracy level 4). */
const INVARIANT_BLOCKS: Record<number, number[]> = { 2: [32, 64, 128], 4: [16, 32], 8: [16, 32, 64] };

function isInvariantInBlocks(node: GraphNode): boolean {
  return (INVARIANT_BLOCKS[integerOf(node, "bits") ?? 4] ?? []).includes(integerOf(node, "block_size") ?? 0);
}

/**
 * A matrix that cannot be packed when the session is made meets one row with another kernel than several. ONNX Runtime
 * computes constants beforehand, but not DequantizeLinear.
 */
function isPackedProduct(node: GraphNode, graph: OnnxGraph): boolean {
  const operator = operatorOf(node);
  if (operator !== "MatMul" && operator !== "com.microsoft:FusedMatMul") return true;
  const matrix = node.inputs[1]!;
  return isComputedBeforehand(matrix, graph) || (operator === "MatMul" && isTakenIn(matrix, graph));
}

/** ONNX Runtime takes a DequantizeLinear into the product as MatMulNBits of level 4: not where its one scale is a vector. */
function isTakenIn(matrix: string, graph: OnnxGraph): boolean {
  if (!isDequantised(matrix, graph)) return false;
  const node = sourceOf(matrix, graph)!;
  const [weight, scales] = node.inputs.map((name) => graph.initializers.get(name));
  if (scales?.dims.join() === "1") return false;
  const blockSize = integerOf(node, "block_size");
  const bits = weight?.dtype.endsWith("int4") === true ? 4 : 8;
  return blockSize === null || INVARIANT_BLOCKS[bits]!.includes(blockSize);
}

function isComputedBeforehand(name: string, graph: OnnxGraph): boolean {
  if (graph.initializers.has(name)) return true;
  const source = sourceOf(name, graph);
  if (source === undefined || isDequantised(name, graph)) return false;
  return source.inputs.every((input) => input === "" || isComputedBeforehand(input, graph));
}

function isDequantised(name: string, graph: OnnxGraph): boolean {
  const source = sourceOf(name, graph);
  return source !== undefined && operatorOf(source) === "DequantizeLinear";
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
