import type { Grid } from "./specifications.ts";
import type { Weight } from "./weights.ts";

/**
 * What is known of one ONNX value at a probe point (batch 1, fixed past and sequence lengths):
 * - `known`: its numbers, because it depends on shapes, positions and constants only;
 * - `form`: for each element, which element of which row it is, times what;
 * - `scores` and `probabilities`: inside attention, between q·kᵀ and ·v;
 * - `present`: a key-value output of a fused attention operator;
 * - `quantised`: between DynamicQuantizeLinear and the scaling that follows MatMulInteger, or between QuantizeLinear and
 *   DequantizeLinear;
 * - `peak`: the largest of attention scores, on its way to be subtracted from them;
 * - `exponentials` and `total`: of attention scores, and their sum, on the way to be divided: a softmax written out.
 */
export type Value = Known | Form | Scores | Probabilities | Present | Quantised | Peak | Exponentials;

export interface Known {
  kind: "known";
  dims: number[];
  type: "float" | "int" | "bool";
  /** Numbers in row-major order; computed when first asked for. */
  read: () => Float64Array;
  /** Set while the value still is a weight of the file, whole. */
  weight: Weight | null;
  /** Set when it is rows of a weight table picked by position: row = position + offset. */
  table: { weight: Weight; offset: number } | null;
  /** Set when it says which tokens chose an expert, or follows from that: its numbers are an example (selection.ts). */
  selection?: Selection;
}

/** The tokens of a call whose router chose one expert. */
export interface Selection {
  /** The row node of the chosen experts' numbers; −1 when only shapes are followed. */
  indices: number;
  expert: number;
  /** How many experts there are. */
  experts: number;
  /** The NonZero that listed them. */
  node: string;
  /** Set when they are those whose share, this row, is not 0. */
  gate?: number;
}

export interface Form {
  kind: "form";
  dims: number[];
  /** Each element is the sum of its terms; one for all but rotated heads. Empty when only shapes are followed. */
  terms: Term[];
  /** Set while the form is whole rows in token order: `terms` are then made only when something looks at them. */
  rows?: RowView;
  /** The position-dependent factors that were multiplied in. */
  factors: Known[];
  /** Set when it has rows of only those tokens that chose an expert. */
  selection?: Selection;
}

/** Row r of a value is the row of `node` for token `tokens[r]`. */
export interface RowView {
  node: number;
  tokens: Int32Array;
  width: number;
}

export interface Term {
  /** Row node id, or −1−i for past input i; an array where elements come from several. */
  source: number | Int32Array;
  /** Element of the source: token × width + column for rows, flat index for a past input; −1: no contribution. */
  index: Int32Array;
  factor: number | Float64Array;
}

export interface Scores {
  kind: "scores";
  /** [..heads, S, T] */
  dims: number[];
  query: Form;
  /** [..heads, D, T], as the product took it. */
  key: Form;
  scale: number;
  softcap: number | null;
  /** Added before the softmax, broadcast to dims' last two axes and perhaps heads; −Infinity hides a key. */
  bias: { dims: number[]; data: Float64Array } | null;
  /** One logit per head beside the keys, until the softmax. */
  sinks: number[] | null;
  /** The sinks stand behind the keys as one more column. */
  withSinks?: boolean;
  /** After Tanh and before the multiplication that closes c·tanh(score / c). */
  capped: boolean;
}

export interface Probabilities {
  kind: "probabilities";
  dims: number[];
  scores: Scores;
}

export interface Peak {
  kind: "peak";
  dims: number[];
  scores: Scores;
}

export interface Exponentials {
  kind: "exponentials" | "total";
  dims: number[];
  scores: Scores;
}

export interface Present {
  kind: "present";
  dims: number[];
  core: number;
  which: "key" | "value";
}

/** Rows quantised on the way into an integer product, and the product until its scale is multiplied back. */
export interface Quantised {
  kind: "quantised";
  dims: number[];
  rows: Form;
  part: "integers" | "scale" | "zero point" | "product" | "product scale";
  /** product: the integer weight and its zero point; product scale: the weight's scale. */
  weight: Weight | null;
  zeroPoints: Weight | null;
  /** Set for integers of a scale that the file gives, instead of one found from the rows of a call. */
  grid?: Grid;
}

/** The graph cannot be lifted; `node` and `reason` are shown to the user, and the model is served whole. */
export class Unliftable extends Error {
  readonly node: string;
  /** The export itself is broken: served whole it would be as wrong. */
  readonly broken: boolean;

  constructor(node: string, reason: string, { broken = false }: { broken?: boolean } = {}) {
    super(reason);
    this.name = "Unliftable";
    this.node = node;
    this.broken = broken;
  }
}

export function known(dims: number[], type: Known["type"], data: Float64Array): Known {
  return { kind: "known", dims, type, read: () => data, weight: null, table: null };
}

/** `compute` runs at most once. */
export function lazyKnown(dims: number[], type: Known["type"], compute: () => Float64Array): Known {
  let data: Float64Array | undefined;
  return { kind: "known", dims, type, read: () => (data ??= compute()), weight: null, table: null };
}

export function scalarOf(value: Known): number | null {
  return count(value.dims) === 1 ? value.read()[0]! : null;
}

/** The one number that a constant repeats. */
export function uniformOf(value: Known): number | null {
  const data = value.read();
  return data.length > 0 && data.every((each) => each === data[0]) ? data[0]! : null;
}

export function integers(value: Known): number[] {
  return Array.from(value.read());
}

export function count(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}
