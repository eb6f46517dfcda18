import type { GraphNode, OnnxModel } from "../../onnx/model.ts";

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
  Identity Constant Cast DequantizeLinear Shape Where Equal Less Greater LessOrEqual GreaterOrEqual And Or Not
  Add Sub Mul Div Neg Abs Pow Sqrt Reciprocal Exp Log Max Min Clip Round Floor Ceil Sign
  Sigmoid Tanh Erf Relu LeakyRelu Elu Softplus Softsign HardSigmoid HardSwish Mish Swish Gelu com.microsoft:Gelu
  com.microsoft:FastGelu com.microsoft:QuickGelu Sin Cos`.split(/\s+/),
);

/** Whether rows of several sequences may share one run. If not, each sequence runs by itself, as it does alone. */
export function isRowInvariant({ graph, functions }: OnnxModel): boolean {
  return functions.size === 0 && graph.nodes.every(isInvariantNode);
}

function isInvariantNode({ domain, opType, attributes }: GraphNode): boolean {
  const operator = domain === "" ? opType : `${domain}:${opType}`;
  if (operator !== "com.microsoft:MatMulNBits") return ROW_INVARIANT.has(operator);
  // Other levels compute one row by another kernel than several: last-bit differences, measured.
  const level = attributes.get("accuracy_level");
  return level?.kind === "int" && level.value === 4;
}
