import type { CoreSpec } from "./specifications.ts";
import type { GraphNode } from "../onnx/model.ts";
import type { ModelHints, PastInput, Probe } from "./probe.ts";
import type { RowProgram } from "./rows.ts";
import { Unliftable, type Form, type Known, type Value } from "./value.ts";

/** What one walk over the graph has and fills. */
export interface Lifter {
  probe: Probe;
  hints: ModelHints;
  /** Version of the default operators. */
  opset: number;
  program: RowProgram;
  values: Map<string, Value>;
  past: PastInput[];
  /** Names of the graph's inputs: a tensor that fills one (an adapter's) is no constant to ONNX Runtime. */
  inputs: Set<string>;
  cores: FoundCore[];
  /** Every operator on rows with its constants, in the order met. */
  uses: string[];
  /** Constant float vectors of the file: where inverse frequencies are found exactly. */
  vectors: Float32Array[];
}

/** One attention core as found at a probe. */
export interface FoundCore {
  pastKey: number;
  pastValue: number;
  /** The row nodes that are cached; −1 when only shapes were followed. */
  key: number;
  value: number;
  /** The file caches keys times this; the core's scale has it, and our cache does not. */
  keyFactor: number;
  spec: CoreSpec;
  /** Its mask orders nothing within a call (mask.ts). */
  unordered: boolean;
  /** Position-dependent factors on q and k, checked against the rotary specification at far positions. */
  factors: Known[];
  node: string;
}

/** An operator's outputs, in order; missing ones are unused. */
export type Lift = (lifter: Lifter, node: GraphNode) => Value[];

export function valueOf(lifter: Lifter, node: GraphNode, input: number): Value {
  const name = node.inputs[input];
  const value = name === undefined || name === "" ? undefined : lifter.values.get(name);
  if (value === undefined)
    throw new Unliftable(
      node.name,
      `${node.opType} needs input ${input}${name === undefined || name === "" ? "" : ` (${name})`}, and the export leaves it out`,
      { broken: true },
    );
  return value;
}

export function optionalValue(lifter: Lifter, node: GraphNode, input: number): Value | null {
  const name = node.inputs[input];
  return name === undefined || name === "" ? null : valueOf(lifter, node, input);
}

export function formAt(lifter: Lifter, node: GraphNode, input: number): Form {
  const value = valueOf(lifter, node, input);
  if (value.kind !== "form")
    throw new Unliftable(node.name, `${node.opType} with a ${value.kind} value as input ${input}`);
  return value;
}

export function knownAt(lifter: Lifter, node: GraphNode, input: number): Known {
  const value = valueOf(lifter, node, input);
  if (value.kind !== "known")
    throw new Unliftable(node.name, `${node.opType} with an input ${input} that depends on the text`);
  return value;
}

export function optionalKnown(lifter: Lifter, node: GraphNode, input: number): Known | null {
  return optionalValue(lifter, node, input) === null ? null : knownAt(lifter, node, input);
}

export function weightAt(lifter: Lifter, node: GraphNode, input: number): NonNullable<Known["weight"]> {
  const value = knownAt(lifter, node, input);
  if (value.weight === null)
    throw new Unliftable(node.name, `${node.opType} with input ${input} computed in the graph, not a weight`);
  return value.weight;
}
