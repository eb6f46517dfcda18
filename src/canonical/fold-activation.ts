import type { RowNode, RowProgram } from "./rows.ts";

/** Recognises activations written out: SiLU (arXiv 1702.03118), GELU by erf and by tanh (arXiv 1606.08415). */
export function foldActivation(program: RowProgram, node: RowNode): number | null {
  return foldSilu(program, node) ?? foldGelu(program, node);
}

function foldSilu(program: RowProgram, node: RowNode): number | null {
  const pair = product(node);
  if (pair === null) return null;
  for (const [x, gate] of [pair, pair.toReversed()] as [number, number][]) {
    if (is(program.node(gate), "unary", "Sigmoid") && program.node(gate).inputs[0] === x)
      return activation(program, x, "Silu");
  }
  return null;
}

/** ½·x·(1 + f) with the half on the product or on x. */
function foldGelu(program: RowProgram, node: RowNode): number | null {
  const halved = scaled(node);
  const outer = halved !== null && near(halved.by, 0.5) ? program.node(halved.input) : node;
  const pair = product(outer);
  if (pair === null) return null;
  for (const [left, gate] of [pair, pair.toReversed()] as [number, number][]) {
    const half = halved === null ? scaled(program.node(left)) : null;
    if (halved === null && (half === null || !near(half.by, 0.5))) continue;
    const x = half === null ? left : half.input;
    const name = geluGate(program, gate, x);
    if (name !== null) return activation(program, x, name);
  }
  return null;
}

/** 1 + erf(x/√2), or 1 + tanh(√(2/π)·(x + 0.044715·x³)) */
function geluGate(program: RowProgram, id: number, x: number): "Gelu" | "GeluTanh" | null {
  const gate = program.node(id);
  if (!is(gate, "scalar", "Add") || gate.attributes.value !== 1) return null;
  const curve = program.node(gate.inputs[0]!);
  const inner = scaled(program.node(curve.inputs[0] ?? id));
  if (inner === null) return null;
  if (is(curve, "unary", "Erf") && near(inner.by, Math.SQRT1_2) && inner.input === x) return "Gelu";
  if (is(curve, "unary", "Tanh") && near(inner.by, Math.sqrt(2 / Math.PI)) && isCubic(program, inner.input, x))
    return "GeluTanh";
  return null;
}

function isCubic(program: RowProgram, id: number, x: number): boolean {
  const sum = program.node(id);
  if (!is(sum, "binary", "Add") || !sum.inputs.includes(x)) return false;
  const other = scaled(program.node(sum.inputs[0] === x ? sum.inputs[1]! : sum.inputs[0]!));
  if (other === null || !near(other.by, 0.044715)) return false;
  const cube = program.node(other.input);
  return is(cube, "scalar", "Pow") && cube.attributes.value === 3 && cube.inputs[0] === x;
}

function activation(program: RowProgram, x: number, name: string): number {
  return program.add({
    op: "unary",
    inputs: [x],
    width: program.width(x),
    attributes: { function: name },
    weights: {},
  });
}

function product(node: RowNode): [number, number] | null {
  return is(node, "binary", "Mul") ? [node.inputs[0]!, node.inputs[1]!] : null;
}

function scaled(node: RowNode): { input: number; by: number } | null {
  return is(node, "scalar", "Mul") ? { input: node.inputs[0]!, by: node.attributes.value! } : null;
}

function is(node: RowNode, op: RowNode["op"], name: string): boolean {
  return node.op === op && node.attributes.function === name;
}

function near(value: number, expected: number): boolean {
  return Math.abs(value - expected) < 1e-5 * expected;
}
