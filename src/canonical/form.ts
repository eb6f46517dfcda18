import type { GraphNode } from "../onnx/model.ts";
import { broadcastTo, transposition, type Movement } from "./movement.ts";
import type { RowProgram } from "./rows.ts";
import { spread } from "./known-elementwise.ts";
import { count, Unliftable, type Form, type Known, type RowView, type Term } from "./value.ts";
import { computedWeight } from "./weights.ts";

export type { RowView } from "./value.ts";

/** Forms that pick from different rows, picking from one row that holds them side by side instead. */
export function joinSources(program: RowProgram, forms: Form[]): Form[] {
  const sources = [...new Set(forms.flatMap(({ terms }) => terms.map(({ source }) => source)))].filter(
    (source) => typeof source === "number" && source >= 0,
  ) as number[];
  if (sources.length < 2) return forms;
  const widths = sources.map((source) => program.width(source));
  const width = widths.reduce((sum, each) => sum + each, 0);
  const joined = program.add({ op: "concat", inputs: sources, width, attributes: {}, weights: {} });
  const moveTo = (term: Term): Term => {
    const which = typeof term.source === "number" ? sources.indexOf(term.source) : -1;
    if (which < 0) return term;
    const offset = widths.slice(0, which).reduce((sum, each) => sum + each, 0);
    const own = widths[which]!;
    return {
      ...term,
      source: joined,
      index: term.index.map((at) => (at < 0 ? at : Math.floor(at / own) * width + offset + (at % own))),
    };
  };
  return forms.map(({ dims, terms, factors }) => ({ kind: "form", dims, terms: terms.map(moveTo), factors }));
}

/** Moves elements of one or several forms (Concat). */
export function moveForms(forms: Form[], { dims, from, input }: Movement): Form {
  const factors = forms.flatMap((form) => form.factors);
  const [{ rows }] = forms as [Form, ...Form[]];
  if (rows !== undefined && from === null) return wholeRows(rows, dims, factors);
  if (forms.some(isShapeOnly)) return { kind: "form", dims, terms: [], factors };
  if (from === null) return { kind: "form", dims, terms: forms[0]!.terms, factors };
  const depth = Math.max(...forms.map((form) => form.terms.length));
  const terms = Array.from({ length: depth }, (_, t) =>
    moveTerm(
      forms.map((form) => form.terms[t] ?? null),
      from,
      input,
    ),
  );
  return { kind: "form", dims, terms, factors };
}

function moveTerm(terms: (Term | null)[], from: Int32Array, input: Uint16Array | null): Term {
  const first = terms.find((term) => term !== null)!;
  const sameSource =
    typeof first.source === "number" && terms.every((term) => term === null || term.source === first.source);
  const sameFactor =
    typeof first.factor === "number" && terms.every((term) => term === null || term.factor === first.factor);
  const index = new Int32Array(from.length);
  const source = sameSource ? (first.source as number) : new Int32Array(from.length);
  const factor = sameFactor ? (first.factor as number) : new Float64Array(from.length);
  for (let i = 0; i < from.length; i++) {
    const term = terms[input === null ? 0 : input[i]!] ?? null;
    const at = from[i]!;
    index[i] = term === null ? -1 : term.index[at]!;
    if (typeof source !== "number") source[i] = term === null ? 0 : sourceAt(term, at);
    if (typeof factor !== "number") factor[i] = term === null ? 0 : factorAt(term, at);
  }
  return { source, index, factor };
}

export function sourceAt(term: Term, at: number): number {
  return typeof term.source === "number" ? term.source : term.source[at]!;
}

export function factorAt(term: Term, at: number): number {
  return typeof term.factor === "number" ? term.factor : term.factor[at]!;
}

export function scaleForm(form: Form, by: number): Form {
  const scale = (factor: Term["factor"]): Term["factor"] =>
    typeof factor === "number" ? factor * by : factor.map((each) => each * by);
  const terms = form.terms.map((term) => ({ ...term, factor: scale(term.factor) }));
  return { kind: "form", dims: form.dims, terms, factors: form.factors };
}

/** Multiplies by numbers that differ from position to position (the cosines and sines of rotary embedding). */
export function multiplyForm(form: Form, by: Known, dims: number[]): Form {
  const wide = moveForms([form], broadcastTo(form.dims, dims));
  const factors = [...form.factors, by];
  if (isShapeOnly(wide)) return { ...wide, factors };
  const numbers = spread(by, dims);
  const terms = wide.terms.map((term) => ({ ...term, factor: numbers.map((each, i) => each * factorAt(term, i)) }));
  return { kind: "form", dims, terms, factors };
}

/** a + b as two terms, when both pick elements of the same rows (a rotation); null when it is an ordinary sum. */
export function sumOfPicks(a: Form, b: Form, dims: number[]): Form | null {
  if (a.rows !== undefined && b.rows !== undefined) return null;
  if (isShapeOnly(a)) {
    const rotates = a.factors.length > 0 && b.factors.length > 0;
    return rotates ? { kind: "form", dims, terms: [], factors: [...a.factors, ...b.factors] } : null;
  }
  const [left] = a.terms;
  const [right] = b.terms;
  if (
    a.terms.length !== 1 ||
    b.terms.length !== 1 ||
    typeof left!.source !== "number" ||
    left!.source !== right!.source
  )
    return null;
  if (typeof left!.factor === "number" && typeof right!.factor === "number") return null;
  const wide = (form: Form): Form => moveForms([form], broadcastTo(form.dims, dims));
  return { kind: "form", dims, terms: [...wide(a).terms, ...wide(b).terms], factors: [...a.factors, ...b.factors] };
}

/**
 * Reads a form as whole rows in token order, adding `columns`, `scalar` or `vector` nodes where it picks or scales.
 * null when its elements are not grouped by token.
 */
export function viewRows(program: RowProgram, form: Form): RowView | null {
  if (form.rows !== undefined) return form.rows;
  const [term] = form.terms;
  if (term === undefined || form.terms.length !== 1 || typeof term.source !== "number" || term.source < 0) return null;
  const stride = program.width(term.source);
  const { index, factor } = term;
  const firstToken = Math.floor(index[0]! / stride);
  let width = 1;
  while (width < index.length && Math.floor(index[width]! / stride) === firstToken) width++;
  if (index.length % width !== 0) return null;
  const tokens = new Int32Array(index.length / width);
  const columns = index.slice(0, width);
  for (let column = 0; column < width; column++) columns[column]! -= firstToken * stride;
  for (let row = 0, at = 0; row < tokens.length; row++) {
    tokens[row] = Math.floor(index[at]! / stride);
    const start = tokens[row]! * stride;
    for (let column = 0; column < width; column++, at++) {
      if (index[at] !== start + columns[column]!) return null;
      if (typeof factor !== "number" && factor[at] !== factor[column]) return null;
    }
  }
  const picked = pickColumns(program, term.source, columns);
  const node = scaleRows(program, picked, typeof factor === "number" ? factor : factor.subarray(0, width));
  return { node, tokens, width };
}

export function pickColumns(program: RowProgram, source: number, picked: ArrayLike<number>): number {
  const columns = Array.from(picked);
  if (columns.length === program.width(source) && columns.every((column, i) => column === i)) return source;
  return program.add({ op: "columns", inputs: [source], width: columns.length, attributes: { columns }, weights: {} });
}

function scaleRows(program: RowProgram, node: number, factor: number | Float64Array): number {
  const width = program.width(node);
  if (typeof factor !== "number") {
    if (factor.every((each) => each === factor[0])) return scaleRows(program, node, factor[0]!);
    const operand = computedWeight(factor, [width], "float32");
    return program.add({ op: "vector", inputs: [node], width, attributes: { function: "Mul" }, weights: { operand } });
  }
  if (factor === 1) return node;
  return program.add({
    op: "scalar",
    inputs: [node],
    width,
    attributes: { function: "Mul", value: factor },
    weights: {},
  });
}

/**
 * Runs `compute` on forms whose tokens come first: an export may normalise or activate heads in [1, heads, S, size].
 * All forms have one rank; the result goes back to their order.
 */
export function inTokenOrder(
  program: RowProgram,
  { forms, sequence }: { forms: Form[]; sequence: number },
  compute: (ordered: Form[]) => Form,
): Form {
  const [first] = forms as [Form, ...Form[]];
  const rank = first.dims.length;
  const inOrder = (form: Form): boolean => viewRows(program, form) !== null;
  if (isShapeOnly(first) || forms.every(inOrder) || forms.some((form) => form.dims.length !== rank))
    return compute(forms);
  const axis = first.dims.findIndex(
    (dim, i) => dim === sequence && i < rank - 1 && forms.every((form) => inOrder(permute(form, toFront(rank, i)))),
  );
  if (axis < 0) return compute(forms);
  const order = toFront(rank, axis);
  return permute(compute(forms.map((form) => permute(form, order))), invert(order));
}

function toFront(rank: number, axis: number): number[] {
  return [axis, ...Array.from({ length: rank }, (_, i) => i).filter((i) => i !== axis)];
}

function invert(order: number[]): number[] {
  return order.map((_, axis) => order.indexOf(axis));
}

function permute(form: Form, order: number[]): Form {
  return moveForms([form], transposition(form.dims, order));
}

/** `viewRows`, or the reason it cannot be. */
export function rowsOf(program: RowProgram, form: Form, node: GraphNode): RowView {
  const view = viewRows(program, form);
  if (view === null)
    throw new Unliftable(
      node.name,
      `${node.opType} takes a value of dims [${form.dims.join(", ")}] that is not one row per token`,
    );
  if (isChoice(program, view.node))
    throw new Unliftable(node.name, `${node.opType} computes with the numbers of chosen experts`);
  return view;
}

export function sameTokens(a: RowView, b: RowView): boolean {
  return a.tokens.length === b.tokens.length && a.tokens.every((token, row) => token === b.tokens[row]);
}

/** The value whose row r is the row of `node` for token `tokens[r]`, seen with these dims. */
export function formOfRows(program: RowProgram, node: number, tokens: Int32Array, dims: number[]): Form {
  const width = program.width(node);
  if (count(dims) !== tokens.length * width)
    throw new Error(`rows of ${tokens.length}×${width} do not fill [${dims.join(", ")}]`);
  return wholeRows({ node, tokens, width }, dims, []);
}

/** Most values are whole rows that nothing ever looks into: their terms are made when something does. */
function wholeRows(rows: RowView, dims: number[], factors: Known[]): Form {
  let terms: Term[] | undefined;
  return {
    kind: "form",
    dims,
    factors,
    rows,
    get terms() {
      return (terms ??= [{ source: rows.node, index: indicesOf(rows), factor: 1 }]);
    },
  };
}

function indicesOf({ tokens, width }: RowView): Int32Array {
  const index = new Int32Array(tokens.length * width);
  for (let row = 0, at = 0; row < tokens.length; row++) {
    for (let column = 0; column < width; column++, at++) index[at] = tokens[row]! * width + column;
  }
  return index;
}

/** The same form, with the factors that went into what it was made of. */
export function withFactors(form: Form, factors: Known[]): Form {
  if (factors.length === 0) return form;
  if (form.rows !== undefined) return wholeRows(form.rows, form.dims, factors);
  return { kind: "form", dims: form.dims, terms: form.terms, factors };
}

/** Whether only the shape of a value is followed. */
export function isShapeOnly(form: Form): boolean {
  return form.rows === undefined && form.terms.length === 0;
}

/** A value of which only the shape is followed. */
export function shapeOnly(dims: number[], factors: Known[] = []): Form {
  return { kind: "form", dims, terms: [], factors };
}

/** The numbers of chosen experts are integers in the stored graph: only a router's own operators may use them. */
function isChoice(program: RowProgram, id: number): boolean {
  const { op, inputs } = program.node(id);
  return op === "top" || (op === "columns" && isChoice(program, inputs[0]!));
}

/** The row nodes and past inputs that a form's elements come from; none where only shapes are followed. */
export function sourcesOf(form: Form): Set<number> {
  if (form.rows !== undefined) return new Set([form.rows.node]);
  return new Set(form.terms.flatMap(({ source }) => (typeof source === "number" ? [source] : Array.from(source))));
}
