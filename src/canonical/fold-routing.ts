import type { RowNode, RowProgram } from "./rows.ts";

/**
 * Recognises a router's arithmetic: the sum of the shares in those slots that hold expert e is column e of the shares
 * spread over all experts; experts' rows, each times its share, that are added up are a mixture.
 */
export function foldRouting(program: RowProgram, node: RowNode): number | null {
  return foldShare(program, node) ?? foldMixture(program, node);
}

/** Σ over slots of share · [choice = e] */
function foldShare(program: RowProgram, node: RowNode): number | null {
  if (node.op !== "sum" || node.attributes.groups !== 1) return null;
  const product = program.node(node.inputs[0]!);
  if (product.op !== "binary" || product.attributes.function !== "Mul") return null;
  for (const [shares, mask] of [product.inputs, product.inputs.toReversed()] as [number, number][]) {
    const chosen = expertOfMask(program, mask);
    if (chosen === null || program.width(shares) !== program.width(chosen.indices)) continue;
    const spread = program.add({
      op: "spread",
      inputs: [shares, chosen.indices],
      width: chosen.experts,
      attributes: { groups: 1 },
      weights: {},
    });
    const columns = [chosen.expert];
    return program.add({ op: "columns", inputs: [spread], width: 1, attributes: { columns }, weights: {} });
  }
  return null;
}

/** One expert's column in each slot of a one-hot row. */
function expertOfMask(program: RowProgram, id: number): { indices: number; expert: number; experts: number } | null {
  const { op, inputs, attributes } = program.node(id);
  if (op !== "columns") return null;
  const onehot = program.node(inputs[0]!);
  if (onehot.op !== "onehot") return null;
  const [indices] = onehot.inputs as [number];
  const experts = onehot.attributes.count!;
  const [expert] = attributes.columns as [number];
  const slots = program.width(indices);
  const all =
    attributes.columns!.length === slots && attributes.columns!.every((each, slot) => each === slot * experts + expert);
  return all && expert < experts && program.node(indices).attributes.groups === 1 ? { indices, expert, experts } : null;
}

/** Sums of gated rows, in the order of their experts. */
function foldMixture(program: RowProgram, node: RowNode): number | null {
  if (node.op !== "binary" || node.attributes.function !== "Add") return null;
  const terms = node.inputs.map((input) => {
    if (program.node(input).op === "mixture") return program.node(input).inputs;
    return gateOf(program, input) === null ? null : [input];
  });
  if (terms.includes(null)) return null;
  const inputs = terms.flatMap((each) => each!).toSorted((a, b) => expertOf(program, a) - expertOf(program, b));
  return program.add({ op: "mixture", inputs, width: node.width, attributes: {}, weights: {} });
}

function expertOf(program: RowProgram, term: number): number {
  return program.node(gateOf(program, term)!.gate).attributes.columns![0]!;
}

/** A row times a gate that is 0 for tokens which did not choose its expert. */
export function gateOf(program: RowProgram, id: number): { gate: number; value: number } | null {
  const { op, inputs, attributes, width } = program.node(id);
  if (op !== "binary" || attributes.function !== "Mul") return null;
  for (const [gate, value] of [inputs, inputs.toReversed()] as [number, number][]) {
    const { op: kind, inputs: from } = program.node(gate);
    const gates = kind === "columns" && program.width(gate) === 1 && program.node(from[0]!).op === "spread";
    if (gates && program.width(value) === width) return { gate, value };
  }
  return null;
}
