import * as fc from "fast-check";
import { expect, it } from "vitest";

import { RowProgram, type RowNode } from "../../src/canonical/rows.ts";
import { simplify } from "../../src/canonical/simplify.ts";
import { computedWeight, takeFromWeight, transposeWeight, type Weight } from "../../src/canonical/weights.ts";
import { numbers } from "../canonical/graph-builder.ts";
import { interpretRows, UNARY_NAMES } from "./row-interpreter.ts";
import { runPart } from "./run-part.ts";

const WIDTH = 12;
const POSITIONS = [0, 3, 41];
const OPERATORS = [
  "linear",
  "norm",
  "unary",
  "binary",
  "scalar",
  "vector",
  "columns",
  "concat",
  "mean",
  "rotary",
  "softmax",
  "sum",
  "pick",
  "spread",
  "onehot",
  "not",
  "fill",
  "mixture",
] as const;

interface Instruction {
  op: (typeof OPERATORS)[number];
  /** Choices, each taken modulo what there is to choose from. */
  a: number;
  b: number;
  c: number;
}

const instructions = fc.array(
  fc.record({ op: fc.constantFrom(...OPERATORS), a: fc.nat(99), b: fc.nat(99), c: fc.nat(99) }),
  { minLength: 1, maxLength: 9 },
);

it("emitted graphs compute what the row program says, before and after it is simplified", async () => {
  const met = new Set<string>();
  await fc.assert(
    fc.asyncProperty(instructions, async (list) => {
      const { program, hidden, output } = build(list);
      const { program: simple, ids } = simplify(program, [output, hidden]);
      for (const { op, attributes } of program.nodes) met.add(`${op} ${attributes.function ?? attributes.kind ?? ""}`);
      const rows = POSITIONS.map((_, token) => Float64Array.from(numbers(token + 1, WIDTH, 2)));
      const expected: Float64Array[] = [];
      for (const [token, row] of rows.entries()) {
        const at = { row, position: POSITIONS[token]! };
        expected.push(await interpretRows(program, output, { id: hidden, ...at }));
        const simplified = await interpretRows(simple, ids.get(output)!, { id: ids.get(hidden)!, ...at });
        expectClose(simplified, expected.at(-1)!);
      }
      const given = await runPart(program, { hidden, output, rows, positions: POSITIONS });
      expected.forEach((row, token) => expectClose(given.subarray(token * row.length, (token + 1) * row.length), row));
      const fromSimple = await runPart(simple, {
        hidden: ids.get(hidden)!,
        output: ids.get(output)!,
        rows,
        positions: POSITIONS,
      });
      expect(fromSimple.length).toBe(given.length);
      fromSimple.forEach((value, i) => expect(Math.abs(value - given[i]!)).toBeLessThan(5e-3));
    }),
    { numRuns: 150, seed: 7 },
  );
  for (const operator of OPERATORS) expect([...met].some((name) => name.startsWith(operator))).toBe(true);
});

function expectClose(given: ArrayLike<number>, expected: Float64Array): void {
  expect(given.length).toBe(expected.length);
  const tolerance = 2e-3 * expected.reduce((most, each) => Math.max(most, Math.abs(each)), 1);
  expected.forEach((value, i) => expect(Math.abs(given[i]! - value), `element ${i}`).toBeLessThan(tolerance));
}

/** A program whose rows stay small: every product is bounded again. */
function build(list: Instruction[]): { program: RowProgram; hidden: number; output: number } {
  const program = new RowProgram();
  const hidden = program.add({ op: "core", inputs: [], width: WIDTH, attributes: {}, weights: {} });
  const made = [hidden];
  const last = (): number => made.at(-1)!;
  for (const [step, instruction] of list.entries()) {
    const node = nodeOf(program, { ...instruction, made, seed: step + 1 });
    if (node === null) continue;
    made.push(program.add(node));
    if (node.op === "binary" || node.op === "scalar") made.push(program.add(unary(program, last(), "Tanh")));
  }
  if (last() === hidden) made.push(program.add(unary(program, hidden, "Tanh")));
  return { program, hidden, output: last() };
}

function unary(program: RowProgram, input: number, name: string): RowNode {
  return { op: "unary", inputs: [input], width: program.width(input), attributes: { function: name }, weights: {} };
}

function nodeOf(
  program: RowProgram,
  { op, a, b, c, made, seed }: Instruction & { made: number[]; seed: number },
): RowNode | null {
  const x = made.at(-1 - (a % 2) * Math.min(made.length - 1, 1))!;
  const width = program.width(x);
  const divisors = Array.from({ length: width }, (_, i) => i + 1).filter((each) => width % each === 0);
  const groups = divisors[b % divisors.length]!;
  const vector = (length: number, offset = 0): Weight =>
    computedWeight(numbers(seed + offset, length), [length], "float32");
  switch (op) {
    case "linear": {
      const out = [1, 2, 3, 4, 6, 8, 12, 24][b % 8]!;
      return {
        op,
        inputs: [x],
        width: out,
        attributes: {},
        weights: { weight: projection(seed, { width, out, kind: c % 4 }) },
      };
    }
    case "norm": {
      const kind = c % 2 === 0 ? "rms" : "layer";
      const size = width / groups;
      const bias: Record<string, Weight> = kind === "layer" && c % 4 > 1 ? { bias: vector(size, 50) } : {};
      const weights: Record<string, Weight> = c % 3 === 0 ? {} : { weight: vector(size), ...bias };
      return { op, inputs: [x], width, attributes: { kind, epsilon: Math.fround(1e-2), groups }, weights };
    }
    case "unary":
      return unary(program, x, UNARY_NAMES[b % UNARY_NAMES.length]!);
    case "binary": {
      const partners = made.filter(
        (id) => Math.max(program.width(id), width) % Math.min(program.width(id), width) === 0,
      );
      const y = partners[b % partners.length]!;
      const name = ["Add", "Sub", "Mul", "Min", "Max"][c % 5]!;
      const inputs = c % 2 === 0 ? [x, y] : [y, x];
      return { op, inputs, width: Math.max(width, program.width(y)), attributes: { function: name }, weights: {} };
    }
    case "scalar": {
      const [name, value] = (
        [
          ["Add", 0.5],
          ["Mul", -0.75],
          ["Max", 0.25],
          ["Pow", 2],
          ["Min", 0.5],
        ] as const
      )[b % 5]!;
      return { op, inputs: [x], width, attributes: { function: name, value }, weights: {} };
    }
    case "vector": {
      const name = c % 2 === 0 ? "Add" : "Mul";
      return { op, inputs: [x], width, attributes: { function: name }, weights: { operand: vector(width / groups) } };
    }
    case "columns": {
      const length = 1 + (b % width);
      const columns = Array.from({ length }, (_, i) =>
        c % 2 === 0 ? (i * 5 + c) % width : (b % (width - length + 1)) + i,
      );
      return { op, inputs: [x], width: length, attributes: { columns }, weights: {} };
    }
    case "concat": {
      const y = made[b % made.length]!;
      const total = width + program.width(y);
      return total > 48 ? null : { op, inputs: [x, y], width: total, attributes: {}, weights: {} };
    }
    case "mean":
    case "sum":
      return { op, inputs: [x], width: groups, attributes: { groups }, weights: {} };
    case "softmax":
      return { op, inputs: [x], width, attributes: { groups }, weights: {} };
    case "pick":
    case "spread":
    case "onehot":
    case "not":
    case "fill": {
      const choice = chosen(program, x, { groups, count: 1 + (c % (width / groups)) });
      const columns = program.width(choice);
      if (op === "pick") return { op, inputs: [x, choice], width: columns, attributes: { groups }, weights: {} };
      if (op === "spread") {
        const values = columns === width ? x : program.add({ ...pickOf(x, choice, groups), width: columns });
        return { op, inputs: [values, choice], width, attributes: { groups }, weights: {} };
      }
      const marks: RowNode = { op: "spread", inputs: [choice], width, attributes: { groups, value: 1 }, weights: {} };
      if (op === "fill") {
        const attributes = { function: c % 2 === 0 ? "Where" : "WhereNot", value: -0.5 };
        return { op, inputs: [program.add(marks), x], width, attributes, weights: {} };
      }
      if (op === "not") return { op, inputs: [program.add(marks)], width, attributes: {}, weights: {} };
      const count = width / groups;
      return columns * count > 48
        ? null
        : { op, inputs: [choice], width: columns * count, attributes: { count }, weights: {} };
    }
    case "mixture":
      return mixtureOf(program, x, { seed, experts: 2 + (b % 3), slots: 1 + (c % 2) });
    case "rotary": {
      if (width % 8 !== 0) return null;
      const frequencies = { kind: "list" as const, values: [1, 0.25] };
      const rotary = { dim: 4, interleaved: c % 2 === 0, frequencies, scale: 1 };
      return { op, inputs: [x], width, attributes: { heads: width / 8, rotary }, weights: {} };
    }
  }
}

function chosen(program: RowProgram, x: number, { groups, count }: { groups: number; count: number }): number {
  return program.add({ op: "top", inputs: [x], width: groups * count, attributes: { groups, count }, weights: {} });
}

function pickOf(x: number, choice: number, groups: number): Omit<RowNode, "width"> {
  return { op: "pick", inputs: [x, choice], attributes: { groups }, weights: {} };
}

/** Σ share · tanh(x·W) over the experts that a router chose. */
function mixtureOf(
  program: RowProgram,
  x: number,
  { seed, experts, slots }: { seed: number; experts: number; slots: number },
): RowNode {
  const width = program.width(x);
  const linear = (out: number, at: number): number => {
    const weight = projection(seed + at, { width, out, kind: 0 });
    return program.add({ op: "linear", inputs: [x], width: out, attributes: {}, weights: { weight } });
  };
  const router = linear(experts, 30);
  const choice = chosen(program, router, { groups: 1, count: slots });
  const shares = program.add({ ...pickOf(router, choice, 1), width: slots });
  const attributes = { groups: 1 };
  const all = program.add({ op: "spread", inputs: [shares, choice], width: experts, attributes, weights: {} });
  const terms = Array.from({ length: experts }, (_, expert) => {
    const value = program.add(unary(program, linear(width, 31 + expert), "Tanh"));
    const gate = program.add({
      op: "columns",
      inputs: [all],
      width: 1,
      attributes: { columns: [expert] },
      weights: {},
    });
    return program.add({ op: "binary", inputs: [value, gate], width, attributes: { function: "Mul" }, weights: {} });
  });
  return { op: "mixture", inputs: terms, width, attributes: {}, weights: {} };
}

/** [width, out], plain, transposed, taken out of a packed one, or both. */
function projection(seed: number, { width, out, kind }: { width: number; out: number; kind: number }): Weight {
  const plain = (dims: number[]): Weight => computedWeight(numbers(seed, dims[0]! * dims[1]!, 0.5), dims, "float32");
  const picked = Array.from({ length: out }, (_, i) => (i * 7 + seed) % (out + 3));
  if (kind === 0) return plain([width, out]);
  if (kind === 1) return transposeWeight(plain([out, width]));
  if (kind === 2) return takeFromWeight(plain([width, out + 3]), "last", picked);
  return takeFromWeight(transposeWeight(plain([out + 3, width])), "last", picked);
}
