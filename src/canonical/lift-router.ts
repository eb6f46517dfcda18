import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, rowsOf, sameTokens, shapeOnly, sourcesOf, viewRows } from "./form.ts";
import { tokensFirst } from "./lift-rows.ts";
import { spread } from "./known-elementwise.ts";
import { formAt, knownAt, valueOf, type Lift, type Lifter } from "./lifter.ts";
import { broadcastDims, broadcastTo, intAttribute, positive } from "./movement.ts";
import type { RowNode, RowProgram } from "./rows.ts";
import { count, integers, Unliftable, uniformOf, type Form, type Value } from "./value.ts";

/** TopK of each row, or of each group of one: the chosen columns, and what stood there. */
export const liftTopK: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const [chosen] = integers(knownAt(lifter, node, 1)) as [number];
  requireLastAxis(node, x.dims.length);
  if (intAttribute(node, "largest", 1) !== 1) throw new Unliftable(node.name, "TopK of the smallest");
  const indices = lastAxis(lifter, node, x, { op: "top", size: chosen, attributes: { count: chosen } });
  return [pick(lifter, node, { data: x, indices }), indices];
};

/** GatherElements along the last axis: each row at columns of its own. */
export const liftGatherElements: Lift = (lifter, node) => {
  const [data, indices] = [formAt(lifter, node, 0), formAt(lifter, node, 1)];
  requireLastAxis(node, data.dims.length);
  return [pick(lifter, node, { data, indices })];
};

function pick(lifter: Lifter, node: GraphNode, { data, indices }: { data: Form; indices: Form }): Form {
  if (lifter.probe.shapesOnly) return shapeOnly(indices.dims);
  const { program } = lifter;
  return tokensFirst(lifter, [data, indices], ([rows, at]) => {
    const [from, columns] = [rowsOf(program, rows!, node), indexRows(program, at!, node)];
    const groups = from.width / rows!.dims.at(-1)!;
    if (!sameTokens(from, columns) || columns.width / at!.dims.at(-1)! !== groups)
      throw new Unliftable(node.name, `${node.opType} with indices of other tokens`);
    const inputs = [from.node, columns.node];
    const id = program.add({ op: "pick", inputs, width: columns.width, attributes: { groups }, weights: {} });
    return formOfRows(program, id, from.tokens, at!.dims);
  });
}

/** ScatterElements of rows into zeros, each row at columns of its own. */
export function spreadRows(lifter: Lifter, node: GraphNode, indices: Form): Form {
  const zeros = knownAt(lifter, node, 0);
  const updates = valueOf(lifter, node, 2);
  requireLastAxis(node, zeros.dims.length);
  if (zeros.read().some((each) => each !== 0)) throw new Unliftable(node.name, `${node.opType} of rows into numbers`);
  if (lifter.probe.shapesOnly) return shapeOnly(zeros.dims);
  const { program } = lifter;
  const value = updates.kind === "known" ? uniformOf(updates) : null;
  if (updates.kind !== "form" && value === null)
    throw new Unliftable(node.name, `${node.opType} of ${updates.kind} values`);
  const forms = updates.kind === "form" ? [indices, updates] : [indices];
  const columns = zeros.dims.at(-1)!;
  // The result has rows as wide as the zeros', so dims are put together again behind the tokens.
  const views = forms.map((form, i) => (i === 0 ? indexRows(program, form, node) : rowsOf(program, form, node)));
  const [at, from] = views as [ReturnType<typeof rowsOf>, ReturnType<typeof rowsOf>?];
  const groups = at.width / indices.dims.at(-1)!;
  if (from !== undefined && (!sameTokens(at, from) || from.width !== at.width))
    throw new Unliftable(node.name, `${node.opType} with indices of other tokens`);
  const made: RowNode = {
    op: "spread",
    inputs: from === undefined ? [at.node] : [from.node, at.node],
    width: groups * columns,
    attributes: { groups, ...(from === undefined ? { value: value! } : {}) },
    weights: {},
  };
  if (made.width * at.tokens.length !== count(zeros.dims))
    throw new Unliftable(node.name, `${node.opType} into [${zeros.dims.join(", ")}]`);
  return formOfRows(program, program.add(made), at.tokens, zeros.dims);
}

/** OneHot and Equal: for each chosen number, which of several it is. */
export const liftOneHot: Lift = (lifter, node) => {
  const indices = formAt(lifter, node, 0);
  const [depth] = integers(knownAt(lifter, node, 1)) as [number];
  const [off, on] = knownAt(lifter, node, 2).read();
  const rank = indices.dims.length + 1;
  if (positive(intAttribute(node, "axis", -1), rank) !== rank - 1 || off !== 0 || on !== 1)
    throw new Unliftable(node.name, "OneHot along another axis, or of other values than 0 and 1");
  const dims = [...indices.dims, depth];
  return [equal(lifter, node, { indices, dims, from: (i) => Math.floor(i / depth), number: (i) => i % depth })];
};

export const liftEqual: Lift = (lifter, node) => {
  const [left, right] = [valueOf(lifter, node, 0), valueOf(lifter, node, 1)];
  const [indices, numbers] = left.kind === "form" ? [left, right] : [right, left];
  if (indices.kind !== "form" || numbers.kind !== "known")
    throw new Unliftable(node.name, `Equal of ${left.kind} and ${right.kind} values`);
  const dims = broadcastDims(indices.dims, numbers.dims, node);
  const { from } = broadcastTo(indices.dims, dims);
  const data = spread(numbers, dims);
  return [equal(lifter, node, { indices, dims, from: (i) => from?.[i] ?? i, number: (i) => data[i]! })];
};

interface Comparison {
  indices: Form;
  dims: number[];
  /** Element i of the result compares this element of the indices … */
  from: (i: number) => number;
  /** … with this number. */
  number: (i: number) => number;
}

function equal(lifter: Lifter, node: GraphNode, { indices, dims, from, number }: Comparison): Form {
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  const { program } = lifter;
  const [term] = indices.terms;
  const [source] = sourcesOf(indices);
  if (indices.terms.length !== 1 || sourcesOf(indices).size !== 1 || !isTop(program, source!) || term!.factor !== 1)
    throw new Unliftable(node.name, `${node.opType} of other than the numbers of chosen experts`);
  const top = program.node(source!);
  const ranked = program.width(top.inputs[0]!) / top.attributes.groups!;
  const width = top.width * ranked;
  const attributes = { count: ranked };
  const id = program.add({ op: "onehot", inputs: [source!], width, attributes, weights: {} });
  const index = Int32Array.from({ length: count(dims) }, (_, i) => {
    const at = term!.index[from(i)]!;
    const value = number(i);
    return at < 0 || value < 0 || value >= ranked ? -1 : at * ranked + value;
  });
  return { kind: "form", dims, terms: [{ source: id, index, factor: 1 }], factors: [] };
}

/** Not, of rows of truth. */
export const liftNot: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  requireTruth(lifter, node, x);
  return [lastAxis(lifter, node, x, { op: "not", size: x.dims.at(-1)!, attributes: {} }, { grouped: false })];
};

/** Where over rows: a number where the condition holds, or where it does not. */
export function fillRows(
  lifter: Lifter,
  node: GraphNode,
  { condition, yes, no }: { condition: Form; yes: Value; no: Value },
): Form {
  const [rows, fill, name] = yes.kind === "form" ? [yes, no, "WhereNot"] : [no, yes, "Where"];
  const value = fill.kind === "known" ? uniformOf(fill) : null;
  if (rows.kind !== "form" || value === null)
    throw new Unliftable(node.name, `Where over ${yes.kind} and ${no.kind} values`);
  const dims = broadcastDims(condition.dims, rows.dims, node);
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  requireTruth(lifter, node, condition);
  const { program } = lifter;
  return tokensFirst(lifter, [condition, rows], ([holds, x]) => {
    const [a, b] = [rowsOf(program, holds!, node), rowsOf(program, x!, node)];
    if (!sameTokens(a, b) || a.width !== b.width) throw new Unliftable(node.name, "Where over rows of other tokens");
    const attributes = { function: name, value };
    const id = program.add({ op: "fill", inputs: [a.node, b.node], width: b.width, attributes, weights: {} });
    return formOfRows(program, id, b.tokens, x!.dims);
  });
}

/** Sum or softmax over the last axis: over the row, or over each group of it. */
export function lastAxis(
  lifter: Lifter,
  node: GraphNode,
  x: Form,
  { op, size, attributes }: { op: RowNode["op"]; size: number; attributes: RowNode["attributes"] },
  { grouped = true } = {},
): Form {
  const dims = [...x.dims.slice(0, -1), size];
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  return tokensFirst(lifter, [x], ([ordered]) => {
    const view = rowsOf(lifter.program, ordered!, node);
    const groups = view.width / ordered!.dims.at(-1)!;
    if (!Number.isInteger(groups)) throw new Unliftable(node.name, `${node.opType} over part of a group`);
    const id = lifter.program.add({
      op,
      inputs: [view.node],
      width: groups * size,
      attributes: grouped ? { groups, ...attributes } : attributes,
      weights: {},
    });
    return formOfRows(lifter.program, id, view.tokens, [...ordered!.dims.slice(0, -1), size]);
  });
}

/** Rows of 0 and 1, as comparisons give them. */
export function requireTruth({ probe, program }: Lifter, node: GraphNode, x: Form): void {
  if (!probe.shapesOnly && ![...sourcesOf(x)].every((source) => source >= 0 && holdsTruth(program, source)))
    throw new Unliftable(node.name, `${node.opType} of rows that are not yes or no`);
}

function holdsTruth(program: RowProgram, id: number): boolean {
  const { op, inputs, attributes } = program.node(id);
  if (op === "columns" || op === "concat") return inputs.every((input) => holdsTruth(program, input));
  return op === "onehot" || op === "not" || (op === "spread" && attributes.value === 1);
}

/** Whole numbers: token ids, chosen columns, yes or no. */
export function requireIntegers({ probe, program }: Lifter, node: GraphNode, x: Form): void {
  const whole = (id: number): boolean => ["ids", "top"].includes(program.node(id).op) || holdsTruth(program, id);
  if (!probe.shapesOnly && ![...sourcesOf(x)].every((source) => source >= 0 && whole(source)))
    throw new Unliftable(node.name, `${node.opType} rounds rows to whole numbers`);
}

/** Chosen columns are integers in the stored graph: they may only be used as such. */
function indexRows(program: RowProgram, form: Form, node: GraphNode): ReturnType<typeof rowsOf> {
  const view = viewRows(program, form);
  if (view === null || !isTop(program, view.node))
    throw new Unliftable(node.name, `${node.opType} with indices that are not a router's choice`);
  return view;
}

function isTop(program: RowProgram, id: number): boolean {
  return id >= 0 && program.node(id).op === "top";
}

function requireLastAxis(node: GraphNode, rank: number): void {
  const fallback = node.opType === "TopK" ? -1 : 0;
  if (positive(intAttribute(node, "axis", fallback), rank) !== rank - 1)
    throw new Unliftable(node.name, `${node.opType} along other than the last axis of rows`);
}
