import type { RowNode, RowProgram } from "./rows.ts";

/** Recognises a SiLU written out (arXiv 1702.03118). */
export function foldSilu(program: RowProgram, node: RowNode): number | null {
  const pair = product(node);
  if (pair === null) return null;
  for (const [x, gate] of [pair, pair.toReversed()] as [number, number][]) {
    if (is(program.node(gate), "unary", "Sigmoid") && program.node(gate).inputs[0] === x)
      return activation(program, x, "Silu");
  }
  return null;
}

/** Recognises a GELU written out by erf or by tanh (arXiv 1606.08415): ½·x·(1 + f), factors in any order. */
export function foldGelu(program: RowProgram, node: RowNode): number | null {
  if (!is(node, "binary", "Mul") && !is(node, "scalar", "Mul")) return null;
  const whole = productOf(program, node);
  for (const gate of new Set(whole.factors)) {
    const curve = onePlus(program, gate);
    if (curve === null) continue;
    const name = is(program.node(curve), "unary", "Erf") ? "Gelu" : "GeluTanh";
    if (name === "GeluTanh" && !is(program.node(curve), "unary", "Tanh")) continue;
    const inner = program.node(curve).inputs[0]!;
    for (const x of candidates(program, inner)) {
      const row = factorsOf(program, x);
      const gated = { by: 0.5 * row.by, factors: [...row.factors, gate] };
      if (!sameProduct(whole, gated)) continue;
      const angle = name === "Gelu" ? isErfAngle(program, inner, row) : isTanhAngle(program, inner, row);
      if (angle) return activation(program, x, name);
    }
  }
  return null;
}

/** x/√2 */
function isErfAngle(program: RowProgram, id: number, x: Product): boolean {
  return sameProduct(factorsOf(program, id), { ...x, by: x.by * Math.SQRT1_2 });
}

/** √(2/π)·(x + 0.044715·x³), or √(2/π)·x·(1 + 0.044715·x²) */
function isTanhAngle(program: RowProgram, id: number, x: Product): boolean {
  const angle = factorsOf(program, id);
  const root = Math.sqrt(2 / Math.PI);
  return angle.factors.some((sum) => {
    const inner = onePlus(program, sum);
    if (inner !== null) {
      const whole = { by: root * x.by, factors: [...x.factors, sum] };
      return sameProduct(angle, whole) && sameProduct(factorsOf(program, inner), powerOf(x, 2));
    }
    if (!sameProduct(angle, { by: root, factors: [sum] }) || !is(program.node(sum), "binary", "Add")) return false;
    const [a, b] = program.node(sum).inputs.map((input) => factorsOf(program, input)) as [Product, Product];
    return [[a, b] as const, [b, a] as const].some(
      ([line, cube]) => sameProduct(line, x) && sameProduct(cube, powerOf(x, 3)),
    );
  });
}

/** 0.044715·xⁿ */
function powerOf({ by, factors }: Product, power: number): Product {
  return { by: 0.044715 * by ** power, factors: Array.from({ length: power }, () => factors).flat() };
}

/** What 1 is added to. */
function onePlus(program: RowProgram, id: number): number | null {
  const node = program.node(id);
  return is(node, "scalar", "Add") && node.attributes.value === 1 ? node.inputs[0]! : null;
}

/** Rows that an angle may be made of. */
function candidates(program: RowProgram, id: number, depth = 5): Set<number> {
  const { op, inputs } = program.node(id);
  if (depth === 0 || !["scalar", "binary"].includes(op)) return new Set([id]);
  return new Set([id, ...inputs.flatMap((input) => [...candidates(program, input, depth - 1)])]);
}

/** A number times rows, each as often as it is a factor. */
interface Product {
  by: number;
  factors: number[];
}

function factorsOf(program: RowProgram, id: number): Product {
  return productOf(program, program.node(id), id);
}

function productOf(program: RowProgram, node: RowNode, id?: number): Product {
  const { inputs, attributes } = node;
  if (is(node, "binary", "Mul") && inputs.every((input) => program.width(input) === node.width)) {
    const [a, b] = inputs.map((input) => factorsOf(program, input)) as [Product, Product];
    if (a.factors.length + b.factors.length <= MOST_FACTORS)
      return { by: a.by * b.by, factors: [...a.factors, ...b.factors] };
  }
  if (is(node, "scalar", "Mul")) {
    const { by, factors } = factorsOf(program, inputs[0]!);
    return { by: by * attributes.value!, factors };
  }
  if (is(node, "scalar", "Pow") && [2, 3].includes(attributes.value!)) {
    const { by, factors } = factorsOf(program, inputs[0]!);
    const power = attributes.value!;
    return { by: by ** power, factors: Array.from({ length: power }, () => factors).flat() };
  }
  return { by: 1, factors: id === undefined ? [] : [id] };
}

/** More are no activation: x·x·x has three, gated products a few. */
const MOST_FACTORS = 16;

function sameProduct(a: Product, b: Product): boolean {
  return near(a.by, b.by) && sorted(a.factors) === sorted(b.factors);
}

function sorted(factors: number[]): string {
  return factors.toSorted((a, b) => a - b).join();
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

function is(node: RowNode, op: RowNode["op"], name: string): boolean {
  return node.op === op && node.attributes.function === name;
}

function near(value: number, expected: number): boolean {
  return Math.abs(value - expected) <= 1e-5 * Math.abs(expected);
}
