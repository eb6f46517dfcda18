import type { CoreSpec, Grid, RotarySpec } from "./specifications.ts";
import type { Attribute } from "../onnx/model.ts";
import { describeWeight, type Weight } from "./weights.ts";

/**
 * The row program: what a decoder computes, said once per token. Every node gives one row of `width` numbers per
 * token from rows of the same token; only `core` looks at other tokens. Batch, sequence length, head transposes,
 * masks, position arithmetic and the exporter's idioms are gone, so two exports of one network lift to one program.
 */
export interface RowNode {
  op: RowOperator;
  inputs: number[];
  width: number;
  attributes: RowAttributes;
  weights: Record<string, Weight>;
}

export type RowOperator =
  | "ids" // the token's id
  | "embed" // row of `table` [vocab, width] at inputs[0], or at position + offset without an input
  | "linear" // x·`weight` [in, out]; quantised: `weight` [out, blocks, bytes], `scales`, `zeroPoints`, `groupIndex`; a LoRA: `down`, `up`
  | "norm" // attributes: kind rms | layer, epsilon, groups; `weight`, `bias`
  | "unary" // attributes.function; Half: rounded to float16 (round-halves.ts)
  | "binary" // attributes.function over two rows; a width of 1 spreads
  | "scalar" // attributes.function with attributes.value on the right
  | "vector" // attributes.function with a weight vector `operand` on the right
  | "columns" // attributes.columns of inputs[0]
  | "concat"
  | "mean" // over the row, or over each of attributes.groups
  | "sum" // likewise
  | "softmax" // likewise
  | "top" // numbers of the attributes.count largest columns of each of attributes.groups, largest first
  | "pick" // inputs[0] at the columns that inputs[1] gives, in each of attributes.groups
  | "spread" // inputs[0], or attributes.value, at the columns that the last input gives, 0 elsewhere, in each of attributes.groups
  | "onehot" // for each number of the row, attributes.count columns: 1 at that number, 0 elsewhere
  | "not" // 1 − x for rows of 0 and 1
  | "rounded" // to the nearest number of attributes.grid
  | "fill" // attributes.value where inputs[0] is not 0 (function Where) or is 0 (WhereNot), elsewhere inputs[1]
  | "mixture" // the sum of its inputs in order; where a token's gate is 0 an input need not be computed (fold-routing.ts)
  | "experts" // a mixture-of-experts operator as it is: row and router row in, weights by input number
  | "rotary" // attributes.heads, attributes.rotary
  | "core"; // q, k, v → o; attributes.layer, attributes.core

export interface RowAttributes {
  function?: string;
  value?: number;
  kind?: "rms" | "layer";
  epsilon?: number;
  /** norm: the operator makes its row itself, as a sum (until `simplify`). */
  addsUp?: boolean;
  groups?: number;
  /** top: how many; onehot: how many there are. */
  count?: number;
  columns?: number[];
  offset?: number;
  heads?: number;
  rotary?: RotarySpec;
  rotaryTables?: { cos: Weight; sin: Weight };
  /** experts: the ONNX operator and its attributes, by name. */
  operator?: { domain: string; opType: string; attributes: [string, Attribute][] };
  layer?: number;
  core?: CoreSpec;
  /** Quantised weights (MatMulNBits, GatherBlockQuantized). */
  bits?: number;
  blockSize?: number;
  accuracyLevel?: number;
  inputWidth?: number;
  /** linear: the weight is bitsandbytes' FP4 (0) or NF4 (1). */
  bnb4?: number;
  /** linear: rows are rounded to 8 bits before the product, all rows of a call by one scale (DynamicQuantizeLinear). */
  dynamic?: boolean;
  /** linear: what (x·`down`)·`up` is multiplied by before it is added. */
  adapterScale?: number;
  grid?: Grid;
}

/** Nodes in the order they were first needed; equal nodes are one node. */
export class RowProgram {
  readonly nodes: RowNode[] = [];
  readonly #known = new Map<string, number>();

  add(node: RowNode): number {
    const key = describeNode(node);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const id = this.nodes.push(node) - 1;
    this.#known.set(key, id);
    return id;
  }

  node(id: number): RowNode {
    const node = this.nodes[id];
    if (node === undefined) throw new Error(`row node ${id} does not exist`);
    return node;
  }

  width(id: number): number {
    return this.node(id).width;
  }
}

/** A node as text: equal texts, equal function of equal weights. */
export function describeNode(node: RowNode): string {
  const { rotaryTables, value, ...rest } = node.attributes;
  // JSON has no infinities.
  const attributes = value === undefined ? rest : { ...rest, value: String(value) };
  const weights = Object.entries({ ...node.weights, ...rotaryTables }).map(([name, weight]) => [
    name,
    describeWeight(weight),
  ]);
  return JSON.stringify([node.op, node.inputs, node.width, attributes, weights]);
}
