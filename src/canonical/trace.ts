import type { GraphNode } from "../onnx/model.ts";
import { scalarOf, Unliftable, uniformOf, type Value } from "./value.ts";

/**
 * One operator on rows as text: which, its attributes, and the weights and numbers it takes. Where only shapes are
 * followed this is all that is seen of the arithmetic; a graph that takes other numbers there computes something else.
 */
export function describeUse(node: GraphNode, inputs: (Value | null)[]): string {
  const attributes = Array.from(node.attributes, ([name, attribute]) => [
    name,
    attribute.kind === "tensor" || attribute.kind === "graph" ? "" : attribute.value,
  ]);
  // What is added to scores is a mask, of one number when there is one query: recogniseMask judges it at every probe.
  const masks = node.opType === "Add" && inputs.some((input) => input?.kind === "scores");
  // What rows are scattered into is as long as the call.
  const scatters = node.opType === "ScatterElements" || node.opType === "ScatterND";
  const operands = inputs.map((input) => {
    if (input?.kind === "known" && masks) return "mask";
    if (input?.kind === "known" && input.type === "float" && scatters) return uniformOf(input) ?? "numbers";
    return describeInput(input);
  });
  return JSON.stringify([node.domain, node.opType, attributes, operands]);
}

/** Integers are lengths and positions, several numbers may be masks or angles: those are compared elsewhere. */
function describeInput(value: Value | null): unknown {
  if (value?.kind !== "known") return value?.kind ?? "";
  if (value.weight !== null) return [value.weight.tensor.name, value.weight.dims];
  return value.type === "int" ? "integers" : (scalarOf(value) ?? "numbers");
}

/** Throws `Unliftable` unless both walks met the same operators with the same constants. */
export function requireSameUses(a: readonly string[], b: readonly string[]): void {
  const same = a.length === b.length && a.every((use, i) => use === b[i]);
  if (!same)
    throw new Unliftable(differingUse(a, b), "the graph computes something else for sequences of another length");
}

/** The first operator in which two walks differ, for people. */
export function differingUse(a: readonly string[], b: readonly string[]): string {
  const differing = a.findIndex((use, i) => use !== b[i]);
  const at = differing < 0 ? a.length : differing;
  const [, operator] = JSON.parse(a[at] ?? b[at]!) as [string, string];
  return `operator ${at} on rows (${operator})`;
}
