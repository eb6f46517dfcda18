import type { RowNode, RowProgram } from "./rows.ts";

/**
 * Recognises a LoRA that was left in the graph (arXiv 2106.09685): W·x + s · (x·A)·B with A and B narrow, on whichever
 * side of the sum and before or behind the bias. It becomes part of the projection, apart from its weight, so that a
 * block is cut as the plain model's block and what the adapter adds lies beside it.
 */
export function foldAdapter(program: RowProgram, node: RowNode): number | null {
  if (node.op !== "binary" || node.attributes.function !== "Add") return null;
  for (const [base, added] of [node.inputs, node.inputs.toReversed()] as [number, number][]) {
    const low = lowRankProduct(program, added);
    if (low !== null) return joinFactors(program, base, low) ?? joinBehindBias(program, base, low);
  }
  return null;
}

interface LowRankProduct {
  input: number;
  width: number;
  scale: number;
  factors: { down: RowNode["weights"][string]; up: RowNode["weights"][string] };
}

/** s · (x·A)·B, the scale anywhere on the way. */
function lowRankProduct(program: RowProgram, id: number): LowRankProduct | null {
  const outer = unscaled(program, id);
  const up = program.node(outer.id);
  if (!isPlain(up)) return null;
  const inner = unscaled(program, up.inputs[0]!);
  const down = program.node(inner.id);
  if (!isPlain(down)) return null;
  const input = unscaled(program, down.inputs[0]!);
  const [rank, inputWidth] = [down.width, program.width(input.id)];
  if (rank * (inputWidth + up.width) >= inputWidth * up.width) return null;
  return {
    input: input.id,
    width: up.width,
    scale: outer.scale * inner.scale * input.scale,
    factors: { down: down.weights["weight"]!, up: up.weights["weight"]! },
  };
}

function unscaled(program: RowProgram, id: number): { id: number; scale: number } {
  const node = program.node(id);
  if (node.op !== "scalar" || node.attributes.function !== "Mul") return { id, scale: 1 };
  const inner = unscaled(program, node.inputs[0]!);
  return { id: inner.id, scale: inner.scale * node.attributes.value! };
}

/** A float projection that stands for itself: factors in integers, or rounded rows, are another computation. */
function isPlain({ op, attributes, weights }: RowNode): boolean {
  return (
    op === "linear" &&
    Object.keys(attributes).length === 0 &&
    Object.keys(weights).length === 1 &&
    weights["weight"]!.dequantize === undefined
  );
}

function joinFactors(program: RowProgram, id: number, low: LowRankProduct): number | null {
  const base = program.node(id);
  const fits = base.op === "linear" && base.inputs[0] === low.input && base.width === low.width;
  if (!fits || base.weights["down"] !== undefined || base.attributes.dynamic === true) return null;
  const attributes = { ...base.attributes, adapterScale: low.scale };
  return program.add({ ...base, attributes, weights: { ...base.weights, ...low.factors } });
}

function joinBehindBias(program: RowProgram, id: number, low: LowRankProduct): number | null {
  const bias = program.node(id);
  if (bias.op !== "vector" || bias.attributes.function !== "Add") return null;
  const joined = joinFactors(program, bias.inputs[0]!, low);
  return joined === null ? null : program.add({ ...bias, inputs: [joined] });
}
