import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, inTokenOrder, rowsOf, shapeOnly, withFactors } from "./form.ts";
import { liftBinary } from "./lift-elementwise.ts";
import { rotateRows } from "./lift-rotation.ts";
import { formAt, knownAt, optionalKnown, optionalValue, type Lift, type Lifter } from "./lifter.ts";
import { floatAttribute, intAttribute, positive } from "./movement.ts";
import { count, Unliftable, type Form, type Known, type Value } from "./value.ts";
import { computedWeight, reshapeWeight, type Weight } from "./weights.ts";

/** SimplifiedLayerNormalization, RMSNormalization (opset 23), LayerNormalization over the last axis. */
export const liftNorm: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const axis = positive(intAttribute(node, "axis", -1), x.dims.length);
  if (axis !== x.dims.length - 1) throw new Unliftable(node.name, `${node.opType} over several axes`);
  return [norm(lifter, node, { x, weight: knownAt(lifter, node, 1), bias: optionalKnown(lifter, node, 2) })];
};

/** com.microsoft.Skip(Simplified)LayerNormalization = Add, then norm; output 3 is the sum. */
export const liftSkipNorm: Lift = (lifter, node) => {
  const simplified = node.opType === "SkipSimplifiedLayerNormalization";
  const bias = simplified ? 3 : 4;
  const add = { ...node, opType: "Add", inputs: [node.inputs[0]!, node.inputs[1]!] };
  let [sum] = liftBinary(lifter, add) as [Value];
  if (optionalValue(lifter, node, bias) !== null) {
    const name = `${node.outputs[0]}::sum`;
    lifter.values.set(name, sum);
    [sum] = liftBinary(lifter, { ...add, inputs: [name, node.inputs[bias]!] }) as [Value];
  }
  if (sum.kind !== "form") throw new Unliftable(node.name, `${node.opType} of constants`);
  const weight = knownAt(lifter, node, 2);
  const beta = simplified ? null : optionalKnown(lifter, node, 3);
  const normed = norm(lifter, node, { x: sum, weight, bias: beta, addsUp: true });
  return [normed, sum, sum, sum];
};

function norm(
  lifter: Lifter,
  node: GraphNode,
  operands: { x: Form; weight: Known; bias: Known | null; addsUp?: boolean },
): Form {
  const kind = node.opType === "LayerNormalization" || node.opType === "SkipLayerNormalization" ? "layer" : "rms";
  const fallback = node.domain === "com.microsoft" ? 1e-12 : 1e-5;
  return normOf(lifter, node, { ...operands, kind, epsilon: floatAttribute(node, "epsilon", fallback) });
}

export interface Normalisation {
  x: Form;
  weight: Known;
  bias: Known | null;
  kind: "rms" | "layer";
  epsilon: number;
  /** The operator makes x itself, as a sum. */
  addsUp?: boolean;
}

/** Normalises the last axis: the row, or each head of it. */
export function normOf(lifter: Lifter, node: GraphNode, normalisation: Normalisation): Form {
  const { x, weight } = normalisation;
  const size = x.dims.at(-1)!;
  if (count(weight.dims) !== size)
    throw new Unliftable(node.name, `${node.opType} of rows of ${size} with ${count(weight.dims)} weights`);
  // Heads may be normalised after they were rotated: the angles are still checked at the core.
  if (lifter.probe.shapesOnly) return shapeOnly(x.dims, x.factors);
  const forms = [x.terms.length === 2 ? rotateRows(lifter, node, x) : x];
  const normed = inTokenOrder(lifter.program, { forms, sequence: lifter.probe.sequence }, ([ordered]) =>
    normRows(lifter, node, { ...normalisation, x: ordered! }),
  );
  return withFactors(normed, x.factors);
}

function normRows(lifter: Lifter, node: GraphNode, { x, weight, bias, kind, epsilon, addsUp }: Normalisation): Form {
  const size = x.dims.at(-1)!;
  const view = rowsOf(lifter.program, x, node);
  // Some exporters write the bias that a network has not, as zeros.
  const shifts = bias !== null && bias.read().some((each) => each !== 0);
  const weights = { weight: vector(weight, size), ...(shifts ? { bias: vector(bias, size) } : {}) };
  const id = lifter.program.add({
    op: "norm",
    inputs: [view.node],
    width: view.width,
    attributes: { kind, epsilon, groups: view.width / size, ...(addsUp === true ? { addsUp } : {}) },
    weights,
  });
  return formOfRows(lifter.program, id, view.tokens, x.dims);
}

function vector(value: Known, length: number): Weight {
  return value.weight === null
    ? computedWeight(value.read(), [length], "float32")
    : reshapeWeight(value.weight, [length]);
}
