import { foldGelu, foldSilu } from "./fold-activation.ts";
import { foldAdapter } from "./fold-adapter.ts";
import { foldNorm } from "./fold-norm.ts";
import { foldRouting } from "./fold-routing.ts";
import { isRounding } from "./round-halves.ts";
import { RowProgram, type RowNode } from "./rows.ts";
import { takeFromWeight, type Weight } from "./weights.ts";

export interface Simplified {
  program: RowProgram;
  /** Old id → new id, for the ids asked for. */
  ids: Map<number, number>;
}

/**
 * Rebuilds the part of the program that `outputs` need in canonical form: written-out norms and activations become
 * one node, a LoRA's factors join the projection they add to, picks of columns move into the weights that made them
 * (packed q/k/v and gate/up fall apart here).
 */
export function simplify(program: RowProgram, outputs: number[]): Simplified {
  const result = new RowProgram();
  const ids = new Map<number, number>();
  const rounds = roundsTo8Bits(program);
  const rebuild = (id: number): number => {
    const done = ids.get(id);
    if (done !== undefined) return done;
    const node = program.node(id);
    const inputs = node.inputs.map(rebuild);
    const made = (rounds ? null : foldGelu(result, { ...node, inputs })) ?? addSimplified(result, { ...node, inputs });
    ids.set(id, made);
    return made;
  };
  // Node ids ascend along dependencies, so this loop keeps the recursion one level deep.
  const needed = reachable(program, outputs);
  for (let id = 0; id < program.nodes.length; id++) if (needed.has(id)) rebuild(id);
  return { program: result, ids };
}

function reachable(program: RowProgram, outputs: number[]): Set<number> {
  const seen = new Set<number>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const id = stack.pop()!;
    if (seen.has(id)) continue;
    seen.add(id);
    stack.push(...program.node(id).inputs);
  }
  return seen;
}

/**
 * Then a GELU stays as the file has it: ONNX Runtime makes one operator of some spellings and not of others, and a
 * difference in the last bit moves such a rounding by a whole step.
 */
function roundsTo8Bits({ nodes }: RowProgram): boolean {
  return nodes.some(({ attributes }) => attributes.dynamic === true || attributes.accuracyLevel === 4);
}

function addSimplified(program: RowProgram, node: RowNode): number {
  const x = node.inputs[0]!;
  const { function: name, value } = node.attributes;
  if (node.op === "scalar" && name === "Pow" && value === 2)
    return program.add({ ...node, op: "binary", inputs: [x, x], attributes: { function: "Mul" } });
  if (isRounding(node) && isRounding(program.node(x))) return x;
  if (node.op === "embed" && (node.attributes.offset ?? 0) > 0) return fromFirstPosition(program, node);
  if (node.op === "columns") return takeColumns(program, node.inputs[0]!, node.attributes.columns!);
  if (node.op === "norm" && node.attributes.addsUp === true) {
    const { addsUp: _, ...attributes } = node.attributes;
    return program.add({ ...node, attributes });
  }
  const folded =
    foldNorm(program, node) ?? foldSilu(program, node) ?? foldAdapter(program, node) ?? foldRouting(program, node);
  return folded ?? program.add(node);
}

/** A table of positions without the rows before the first position, which no token reaches. */
function fromFirstPosition(program: RowProgram, node: RowNode): number {
  const { offset, ...attributes } = node.attributes;
  const length = node.weights["table"]!.dims[0]! - offset!;
  const rows = Array.from({ length }, (_, row) => row + offset!);
  const taken = Object.entries(node.weights).map(([name, weight]) => [name, takeFromWeight(weight, "first", rows)]);
  const weights = Object.fromEntries(taken) as RowNode["weights"];
  return program.add({ ...node, attributes: { ...attributes, offset: 0 }, weights });
}

/** Columns of a node, taken as early as the node's meaning allows: from a projection's weight, at best. */
function takeColumns(program: RowProgram, id: number, columns: number[]): number {
  const node = program.node(id);
  if (columns.length === node.width && columns.every((column, i) => column === i)) return id;
  const narrowed = (inputs: number[], weights: RowNode["weights"] = node.weights): number =>
    program.add({ ...node, inputs, width: columns.length, weights });
  const [first] = node.inputs;
  switch (node.op) {
    case "columns":
      return takeColumns(
        program,
        first!,
        columns.map((column) => node.attributes.columns![column]!),
      );
    case "linear": {
      const packed = node.attributes.bits === undefined ? "last" : "first";
      const take = ([name, weight]: [string, Weight]): [string, Weight] => {
        if (name === "down" || name === "groupIndex") return [name, weight];
        return [name, takeFromWeight(weight, name === "up" ? "last" : packed, columns)];
      };
      return narrowed(node.inputs, Object.fromEntries(Object.entries(node.weights).map(take)));
    }
    case "vector": {
      const operand = node.weights["operand"]!;
      if (operand.dims[0] !== node.width) break;
      return narrowed([takeColumns(program, first!, columns)], { operand: takeFromWeight(operand, "last", columns) });
    }
    case "unary":
    case "rounded":
    case "scalar":
      return narrowed([takeColumns(program, first!, columns)]);
    case "concat":
      return takeFromJoined(program, node, columns);
    case "binary": {
      // Shares of experts fall apart with the rows they scale; other narrow rows stay with them.
      const taken = node.inputs.map((input) =>
        program.width(input) === node.width || program.node(input).op === "spread"
          ? columnsOf(program.width(input), node.width, columns)
          : null,
      );
      if (taken.includes(null)) break;
      return narrowed(node.inputs.map((input, i) => takeColumns(program, input, taken[i]!)));
    }
    default:
  }
  return program.add({ op: "columns", inputs: [id], width: columns.length, attributes: { columns }, weights: {} });
}

/** The columns of an operand that these columns of the result need; a narrower operand has one per run of columns. */
function columnsOf(width: number, whole: number, columns: number[]): number[] | null {
  if (width === whole) return columns;
  const groups = columns.map((column) => Math.floor(column / (whole / width)));
  const distinct = groups.filter((group, i) => i === 0 || group !== groups[i - 1]);
  const run = columns.length / distinct.length;
  return groups.every((group, i) => group === distinct[Math.floor(i / run)]) ? distinct : null;
}

/** Columns of rows side by side: each run of columns from the row that holds it. */
function takeFromJoined(program: RowProgram, node: RowNode, columns: number[]): number {
  const starts = node.inputs.map((_, i) =>
    node.inputs.slice(0, i).reduce((sum, input) => sum + program.width(input), 0),
  );
  const runs: { input: number; columns: number[] }[] = [];
  for (const column of columns) {
    const input = starts.findLastIndex((start) => start <= column);
    const last = runs.at(-1);
    if (last?.input === input) last.columns.push(column - starts[input]!);
    else runs.push({ input, columns: [column - starts[input]!] });
  }
  const taken = runs.map((run) => takeColumns(program, node.inputs[run.input]!, run.columns));
  return taken.length === 1
    ? taken[0]!
    : program.add({ op: "concat", inputs: taken, width: columns.length, attributes: {}, weights: {} });
}
