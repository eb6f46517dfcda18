import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, moveForms, rowsOf, shapeOnly, sourcesOf } from "./form.ts";
import { rowsWithRows } from "./lift-elementwise.ts";
import { spreadRows } from "./lift-router.ts";
import { formAt, knownAt, valueOf, type Lift, type Lifter } from "./lifter.ts";
import { gatherMovement, gatherNdMovement, intAttribute, positive } from "./movement.ts";
import { sameSelection, slotOf } from "./selection.ts";
import { count, Unliftable, type Form, type Known, type Selection, type Value } from "./value.ts";
import type { RowProgram } from "./rows.ts";

/** Gather by known indices: a choice of the last token before the head, or the tokens that chose an expert. */
export function gatherRows(lifter: Lifter, node: GraphNode, { data, indices }: { data: Form; indices: Known }): Form {
  const axis = positive(intAttribute(node, "axis", 0), data.dims.length);
  const gathered = moveForms([data], gatherMovement(data.dims, indices.dims, indices.read(), axis));
  return shareOfExpert(lifter, gathered, indices.selection);
}

/** GatherND by known indices. */
export const liftGatherNd: Lift = (lifter, node) => {
  const [data, indices] = [formAt(lifter, node, 0), knownAt(lifter, node, 1)];
  if (intAttribute(node, "batch_dims", 0) !== 0) throw new Unliftable(node.name, "GatherND with batch_dims");
  const gathered = moveForms([data], gatherNdMovement(data.dims, indices.dims, indices.read()));
  return [shareOfExpert(lifter, gathered, indices.selection)];
};

/**
 * One number per token, each from the slot in which the token chose the expert: the expert's share, which is the
 * expert's column of the shares spread over all experts.
 */
function shareOfExpert(lifter: Lifter, picked: Form, selection: Selection | undefined): Form {
  if (selection === undefined || lifter.probe.shapesOnly || picked.rows !== undefined) return picked;
  const { program } = lifter;
  const [source] = sourcesOf(picked);
  const [term] = picked.terms;
  if (picked.terms.length !== 1 || sourcesOf(picked).size !== 1 || source! < 0 || typeof term!.factor !== "number")
    return picked;
  const slots = program.width(selection.indices);
  const tokens = term!.index.map((index) => Math.floor(index / slots));
  const inSlot = term!.index.every((index, i) => index % slots === slotOf(tokens[i]!, lifter, selection));
  if (program.width(source!) !== slots || !inSlot) return picked;
  const scaled =
    term!.factor === 1
      ? source!
      : program.add({
          op: "scalar",
          inputs: [source!],
          width: slots,
          attributes: { function: "Mul", value: term!.factor },
          weights: {},
        });
  const share = shareColumn(program, selection, scaled);
  return formOfRows(program, share, tokens, picked.dims);
}

/** The expert's column of `shares` spread over all experts; without shares, 1 where a token chose it. */
function shareColumn(program: RowProgram, selection: Selection, shares: number | null): number {
  const { indices, expert, experts } = selection;
  const all = program.add({
    op: "spread",
    inputs: shares === null ? [indices] : [shares, indices],
    width: experts,
    attributes: { groups: 1, ...(shares === null ? { value: 1 } : {}) },
    weights: {},
  });
  return program.add({ op: "columns", inputs: [all], width: 1, attributes: { columns: [expert] }, weights: {} });
}

/** ScatterElements and ScatterND: rows of chosen tokens back to their places, or chosen columns into zeros. */
export const liftScatter: Lift = (lifter, node) => {
  const indices = valueOf(lifter, node, 1);
  if (indices.kind === "form") {
    if (node.opType !== "ScatterElements") throw new Unliftable(node.name, "ScatterND to places that a router chose");
    return [spreadRows(lifter, node, indices)];
  }
  const updates = formAt(lifter, node, 2);
  const selection = updates.selection;
  if (indices.kind !== "known" || selection === undefined || indices.selection === undefined)
    throw new Unliftable(node.name, `${node.opType} of other than the rows of chosen tokens`);
  if (!sameSelection(selection, indices.selection))
    throw new Unliftable(node.name, `${node.opType} of one expert's rows to the tokens of another`);
  const data = valueOf(lifter, node, 0);
  const dense = atTheirTokens(lifter, node, { dims: data.dims, indices, updates, selection });
  return [onto(lifter, node, data, dense)];
};

/** Rows for all tokens: those of the chosen ones, and zeros. */
function atTheirTokens(
  lifter: Lifter,
  node: GraphNode,
  { dims, indices, updates, selection }: { dims: number[]; indices: Known; updates: Form; selection: Selection },
): Form {
  const { program, probe } = lifter;
  const listed = node.opType === "ScatterND" ? probe.sequence * indices.dims.at(-1)! : count(dims);
  if (count(updates.dims) !== count(dims) || count(indices.dims) !== listed)
    throw new Unliftable(node.name, `${node.opType} of the rows of some of the tokens that chose an expert`);
  if (probe.shapesOnly) return shapeOnly(dims);
  const rows = rowsOf(program, updates, node);
  const places = placesOf(node, { dims, indices, width: rows.width });
  const complete =
    places.length === rows.tokens.length &&
    places.length === probe.sequence &&
    places.every((place, i) => place === rows.tokens[i]);
  if (!complete || count(dims) !== probe.sequence * rows.width)
    throw new Unliftable(node.name, `${node.opType} of rows to other places than their tokens`);
  const id = gated(program, rows.node, selection);
  if (id === null)
    throw new Unliftable(node.name, `${node.opType} of rows that are not scaled by the share that chose them`);
  const tokens = Int32Array.from({ length: probe.sequence }, (_, token) => token);
  return formOfRows(program, id, tokens, dims);
}

/** The row of `dims` that each row of updates goes to. */
function placesOf(
  node: GraphNode,
  { dims, indices, width }: { dims: number[]; indices: Known; width: number },
): number[] {
  const unknown = new Unliftable(node.name, `${node.opType} of other than whole rows`);
  const at = indices.read();
  if (node.opType === "ScatterND") {
    const depth = indices.dims.at(-1)!;
    if (count(dims.slice(depth)) !== width) throw unknown;
    return Array.from({ length: at.length / depth }, (_, i) =>
      dims.slice(0, depth).reduce((place, dim, axis) => place * dim + at[i * depth + axis]!, 0),
    );
  }
  const axis = positive(intAttribute(node, "axis", 0), dims.length);
  const repeats = at.every((place, i) => place === at[i - (i % width)]);
  if (count(dims.slice(0, axis)) !== 1 || count(dims.slice(axis + 1)) !== width || !repeats) throw unknown;
  return Array.from({ length: at.length / width }, (_, row) => at[row * width]!);
}

/** `id` where a token chose the expert and 0 elsewhere; a row that is multiplied by the expert's share is that already. */
function gated(program: RowProgram, id: number, selection: Selection): number | null {
  const { op, inputs, attributes } = program.node(id);
  if (op === "binary" && attributes.function === "Mul" && inputs.some((input) => isShare(program, input, selection)))
    return id;
  if (selection.gate !== undefined) return null;
  const mask = shareColumn(program, selection, null);
  const width = program.width(id);
  return program.add({ op: "binary", inputs: [id, mask], width, attributes: { function: "Mul" }, weights: {} });
}

function isShare(program: RowProgram, id: number, { indices, expert, gate }: Selection): boolean {
  if (gate !== undefined) return id === gate;
  const { op, inputs, attributes } = program.node(id);
  if (op !== "columns" || attributes.columns!.length !== 1 || attributes.columns![0] !== expert) return false;
  const spread = program.node(inputs[0]!);
  return spread.op === "spread" && spread.inputs.at(-1) === indices;
}

function onto(lifter: Lifter, node: GraphNode, data: Value, rows: Form): Form {
  const reduction = node.attributes.get("reduction");
  const adds = reduction?.kind === "string" && reduction.value === "add";
  if (!adds && reduction?.kind === "string" && reduction.value !== "none")
    throw new Unliftable(node.name, `${node.opType} with reduction ${reduction.value}`);
  if (data.kind === "known" && data.read().every((each) => each === 0)) return rows;
  if (data.kind === "form" && data.selection === undefined && adds)
    return rowsWithRows(lifter, { ...node, opType: "Add" }, data, rows);
  throw new Unliftable(node.name, `${node.opType} overwrites rows`);
}
