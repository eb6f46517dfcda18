import type { GraphNode } from "../onnx/model.ts";
import { sourcesOf } from "./form.ts";
import type { Lift, Lifter } from "./lifter.ts";
import { formAt } from "./lifter.ts";
import { stridesOf } from "./movement.ts";
import { known, Unliftable, type Form, type Selection, type Value } from "./value.ts";

/**
 * The tokens that chose an expert. How many those are depends on the text, so the graph is followed as if each token
 * had chosen it once, token t in slot (t + 1) mod slots: lists of tokens and slots are then numbers like all others,
 * with the selection noted on whatever is made of them. Rows picked by such lists may meet only rows picked by the
 * same ones, and have to be put back to their tokens (lift-scatter.ts) before anything else sees them.
 */
export const liftNonZero: Lift = (lifter, node) => {
  const mask = formAt(lifter, node, 0);
  if (lifter.probe.shapesOnly) {
    const selection = { indices: -1, expert: -1, experts: 0, node: node.outputs[0]! };
    const [rank, tokens] = [mask.dims.length, lifter.probe.sequence];
    return [{ ...known([rank, tokens], "int", new Float64Array(rank * tokens)), selection }];
  }
  const { selection, chosen } = readMask(lifter, node, mask);
  const strides = stridesOf(mask.dims);
  const coordinates = mask.dims.flatMap((dim, axis) => chosen.map((i) => Math.floor(i / strides[axis]!) % dim));
  return [{ ...known([mask.dims.length, chosen.length], "int", Float64Array.from(coordinates)), selection }];
};

/** The slot in which token `token` is taken to have chosen the expert. */
export function slotOf(token: number, { program }: Lifter, { indices }: Selection): number {
  return (token + 1) % program.width(indices);
}

/**
 * A mask has one element for each token and slot, true where that slot holds the expert; or it is the expert's column of
 * all shares, which is not 0 where a token chose it. `chosen` are the elements taken to be true.
 */
function readMask(lifter: Lifter, node: GraphNode, mask: Form): { selection: Selection; chosen: number[] } {
  const { program, probe } = lifter;
  const unknown = new Unliftable(node.name, "NonZero of other than the tokens that chose an expert");
  const [term] = mask.terms;
  const [source] = sourcesOf(mask);
  const plain = mask.terms.length === 1 && sourcesOf(mask).size === 1 && source! >= 0;
  if (!plain || term!.factor !== 1 || term!.index.includes(-1)) throw unknown;
  const { op, inputs, attributes, width } = program.node(source!);
  const gates = op === "spread" && attributes.groups === 1;
  if (op !== "onehot" && !gates) throw unknown;
  const experts = gates ? width : attributes.count!;
  const indices = inputs.at(-1)!;
  const expert = term!.index[0]! % experts;
  const slots = width / experts;
  const places = Array.from(term!.index, (index) => Math.floor(index / experts));
  const every = new Set(places).size === places.length && places.length === slots * probe.sequence;
  if (!every || term!.index.some((index) => index % experts !== expert)) throw unknown;
  const selection: Selection = { indices, expert, experts, node: node.outputs[0]! };
  if (gates) {
    const columns = [expert];
    const gate = program.add({ op: "columns", inputs: [source!], width: 1, attributes: { columns }, weights: {} });
    return { selection: { ...selection, gate }, chosen: [...places.keys()] };
  }
  const inItsSlot = (i: number): boolean =>
    places[i]! % slots === slotOf(Math.floor(places[i]! / slots), lifter, selection);
  return { selection, chosen: [...places.keys()].filter(inItsSlot) };
}

export function sameSelection(a: Selection, b: Selection): boolean {
  return a.node === b.node || (a.indices >= 0 && a.indices === b.indices && a.expert === b.expert && a.gate === b.gate);
}

/** Notes on an operator's outputs the selection of its inputs, or says why they do not go together. */
export function withSelection(node: GraphNode, inputs: (Value | null)[], outputs: Value[]): Value[] {
  const chosen = inputs.filter((input) => input !== null && selectionOf(input) !== null) as Value[];
  const [first] = chosen;
  if (first === undefined || SCATTERS.has(node.opType)) return outputs;
  const selection = selectionOf(first)!;
  if (chosen.some((each) => !sameSelection(selectionOf(each)!, selection)))
    throw new Unliftable(node.name, `${node.opType} joins the tokens of two experts`);
  const others = inputs.some((input) => input !== null && input.kind !== "known" && selectionOf(input) === null);
  if (others && !GATHERS.has(node.opType))
    throw new Unliftable(node.name, `${node.opType} joins the tokens of an expert with all tokens`);
  const counted = chosen.some(({ kind }) => kind === "known") && outputs.some(({ kind }) => kind === "form");
  if (counted && !GATHERS.has(node.opType) && !SHAPES.has(node.opType))
    throw new Unliftable(node.name, `${node.opType} computes with the number of tokens that chose an expert`);
  return outputs.map((output) => noted(node, output, selection));
}

const SCATTERS = new Set(["ScatterElements", "ScatterND"]);
const GATHERS = new Set(["Gather", "GatherND"]);
/** Take a shape as an operand. */
const SHAPES = new Set(["Reshape", "Expand", "Slice", "Split"]);

export function selectionOf(value: Value | null): Selection | null {
  if (value?.kind === "quantised") return value.rows.selection ?? null;
  return value?.kind === "known" || value?.kind === "form" ? (value.selection ?? null) : null;
}

function noted(node: GraphNode, output: Value, selection: Selection): Value {
  if (output.kind === "quantised" && selectionOf(output) !== null) return output;
  if (output.kind === "known") return { ...output, weight: null, table: null, selection };
  if (output.kind !== "form") throw new Unliftable(node.name, `${node.opType} of the tokens of an expert`);
  // Property descriptors, not a spread: a form's terms are made only when something looks at them.
  const copy = Object.defineProperties({}, Object.getOwnPropertyDescriptors(output)) as Form;
  copy.selection = selection;
  return copy;
}
