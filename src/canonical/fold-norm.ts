import type { RowNode, RowProgram } from "./rows.ts";

/**
 * Recognises normalisation written out: x · 1/√(mean(x²) + ε) is an RMS norm without weight (arXiv 1910.07467),
 * (x − mean x) · 1/√(mean((x − mean x)²) + ε) a layer norm (arXiv 1607.06450); a following weight and bias join it.
 */
export function foldNorm(program: RowProgram, node: RowNode): number | null {
  return foldStandardised(program, node) ?? joinWeight(program, node) ?? joinBias(program, node);
}

function foldStandardised(program: RowProgram, node: RowNode): number | null {
  if (node.op !== "binary") return null;
  for (const [x, scale] of [node.inputs, node.inputs.toReversed()] as [number, number][]) {
    const spread =
      node.attributes.function === "Mul"
        ? reciprocalRoot(program, scale)
        : node.attributes.function === "Div" && x === node.inputs[0]
          ? root(program, scale)
          : null;
    if (spread === null || spread.squared !== x) continue;
    const centred = centredInput(program, x, spread.groups);
    const kind = centred === null ? "rms" : "layer";
    const attributes = { kind, epsilon: Math.fround(spread.epsilon), groups: spread.groups } as const;
    return program.add({ op: "norm", inputs: [centred ?? x], width: node.width, attributes, weights: {} });
  }
  return null;
}

interface Spread {
  squared: number;
  epsilon: number;
  groups: number;
}

function reciprocalRoot(program: RowProgram, id: number): Spread | null {
  const node = program.node(id);
  if (node.op === "unary" && node.attributes.function === "Reciprocal") return root(program, node.inputs[0]!);
  return null;
}

/** √(mean(x²) + ε) */
function root(program: RowProgram, id: number): Spread | null {
  const sqrt = program.node(id);
  if (sqrt.op !== "unary" || sqrt.attributes.function !== "Sqrt") return null;
  const sum = program.node(sqrt.inputs[0]!);
  if (sum.op !== "scalar" || sum.attributes.function !== "Add") return null;
  const mean = program.node(sum.inputs[0]!);
  if (mean.op !== "mean") return null;
  const squared = squareOf(program, mean.inputs[0]!);
  return squared === null ? null : { squared, epsilon: sum.attributes.value!, groups: mean.attributes.groups! };
}

function squareOf(program: RowProgram, id: number): number | null {
  const node = program.node(id);
  if (node.op === "scalar" && node.attributes.function === "Pow" && node.attributes.value === 2) return node.inputs[0]!;
  const square = node.op === "binary" && node.attributes.function === "Mul" && node.inputs[0] === node.inputs[1];
  return square ? node.inputs[0]! : null;
}

function centredInput(program: RowProgram, id: number, groups: number): number | null {
  const node = program.node(id);
  if (node.op !== "binary" || node.attributes.function !== "Sub") return null;
  const mean = program.node(node.inputs[1]!);
  return mean.op === "mean" && mean.inputs[0] === node.inputs[0] && mean.attributes.groups === groups
    ? node.inputs[0]!
    : null;
}

function joinWeight(program: RowProgram, node: RowNode): number | null {
  const norm = bareNorm(program, node, "Mul");
  if (norm === null || norm.weights["weight"] !== undefined) return null;
  return program.add({ ...norm, weights: { weight: node.weights["operand"]! } });
}

function joinBias(program: RowProgram, node: RowNode): number | null {
  const norm = bareNorm(program, node, "Add");
  if (
    norm === null ||
    norm.attributes.kind !== "layer" ||
    norm.weights["weight"] === undefined ||
    norm.weights["bias"] !== undefined
  )
    return null;
  return program.add({ ...norm, weights: { ...norm.weights, bias: node.weights["operand"]! } });
}

function bareNorm(program: RowProgram, node: RowNode, operation: string): RowNode | null {
  if (node.op !== "vector" || node.attributes.function !== operation) return null;
  const norm = program.node(node.inputs[0]!);
  if (norm.op !== "norm") return null;
  return node.weights["operand"]!.dims[0] === norm.width / norm.attributes.groups! ? norm : null;
}
