import type { Port } from "../blocks/block.ts";
import type { GraphNode, OnnxGraph } from "../onnx/model.ts";

/** Operators that leave a row its width, or spread a narrower one over it, element by element in float32. */
const KEEPING = new Set(
  `RMSNormalization SimplifiedLayerNormalization LayerNormalization RotaryEmbedding Softmax Identity
  Add Sub Mul Div Neg Abs Pow Sqrt Reciprocal Exp Log Max Min Sigmoid Tanh Erf Relu LeakyRelu Elu Softplus Softsign
  HardSigmoid HardSwish Mish Swish Gelu FastGelu QuickGelu`.split(/\s+/),
);

/**
 * Elements per token of the values of a part, by name, where they are float32 rows [1, N, width] for certain. Values of
 * other forms, and all that is made from them, are left out.
 */
export function rowWidths({ nodes, initializers }: OnnxGraph, inputs: readonly Port[]): Map<string, number> {
  const rows = inputs.filter(({ name }) => name !== "ids" && name !== "positions");
  const widths = new Map<string, number>(rows.map(({ name, width }) => [name, width]));
  for (const node of nodes) {
    const width = widthOf(node, { widths, initializers });
    if (width !== null) widths.set(node.outputs[0]!, width);
  }
  return widths;
}

function widthOf(
  { opType, inputs, outputs, attributes }: GraphNode,
  { widths, initializers }: { widths: Map<string, number>; initializers: OnnxGraph["initializers"] },
): number | null {
  const values = inputs.filter((name) => name !== "" && !initializers.has(name));
  if (outputs.length !== 1 || values.length === 0 || values.some((name) => !widths.has(name))) return null;
  if (opType === "MatMul") {
    const weight = initializers.get(inputs[1]!);
    return weight?.dtype === "float32" && weight.dims.length === 2 ? weight.dims[1]! : null;
  }
  if (opType === "MatMulNBits") {
    const columns = attributes.get("N");
    return columns?.kind === "int" ? columns.value : null;
  }
  if (!KEEPING.has(opType)) return null;
  const weights = inputs.flatMap((name) => initializers.get(name) ?? []);
  if (weights.some(({ dtype }) => dtype !== "float32")) return null;
  const given = values.map((name) => widths.get(name)!);
  // cos and sin are narrower than what they turn; no other operator takes them.
  return Math.max(...given, ...weights.map(({ dims }) => dims.at(-1) ?? 1));
}
