import type { GraphNode } from "../onnx/model.ts";
import { linear, vectorOperation } from "./lift-linear.ts";
import { gridAt, integersOf, rowsOnGrid } from "./lift-on-grid.ts";
import { dequantisedWeight } from "./lift-quantised.ts";
import { knownAt, optionalKnown, valueOf, type Lift, type Lifter } from "./lifter.ts";
import { Unliftable, type Form, type Known, type Quantised } from "./value.ts";

/** QLinearMatMul: a product of integers that is rounded to integers again. */
export const liftQLinearMatMul: Lift = (lifter, node) => {
  const rows = productOf(lifter, node, { rows: 0, rowGrid: 1, weight: 3, scales: 4, zeroPoints: 5 });
  return [integersOf(rows, gridAt(lifter, node, 6))];
};

/** com.microsoft.MatMulIntegerToFloat: a product of integers as numbers. */
export const liftMatMulIntegerToFloat: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  const rows =
    x.kind === "quantised" && x.grid === undefined
      ? dynamicProduct(lifter, node, x)
      : productOf(lifter, node, { rows: 0, rowGrid: [2, 4], weight: 1, scales: 3, zeroPoints: 5 });
  return [withBias(lifter, node, rows, 6)];
};

/** com.microsoft.DynamicQuantizeMatMul: rows rounded by a scale of their own, times integers. */
export const liftDynamicQuantizeMatMul: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  if (x.kind !== "form") throw new Unliftable(node.name, `${node.opType} of ${x.kind} values`);
  const weight = dequantisedWeight(node, knownAt(lifter, node, 1), {
    scales: knownAt(lifter, node, 2),
    zeroPoints: optionalKnown(lifter, node, 3),
  });
  return [withBias(lifter, node, product(lifter, node, { x, weight, dynamic: true }), 4)];
};

function dynamicProduct(lifter: Lifter, node: GraphNode, x: Quantised): Form {
  const [scale, zero] = [valueOf(lifter, node, 2), valueOf(lifter, node, 4)];
  const own = [scale, zero].every((each) => each.kind === "quantised" && each.rows === x.rows);
  if (!own || x.part !== "integers") throw new Unliftable(node.name, "quantised rows are scaled in an unknown way");
  const weight = weightAt(lifter, node, { weight: 1, scales: 3, zeroPoints: 5 });
  return product(lifter, node, { x: x.rows, weight, dynamic: true });
}

interface ProductInputs {
  rows: number;
  rowGrid: number | [scale: number, zero: number];
  weight: number;
  scales: number;
  zeroPoints: number;
}

function productOf(lifter: Lifter, node: GraphNode, inputs: ProductInputs): Form {
  const given = valueOf(lifter, node, inputs.rows);
  const x = rowsOnGrid(lifter, node, given, gridAt(lifter, node, inputs.rowGrid));
  return product(lifter, node, { x, weight: weightAt(lifter, node, inputs), dynamic: false });
}

function weightAt(
  lifter: Lifter,
  node: GraphNode,
  { weight, scales, zeroPoints }: Pick<ProductInputs, "weight" | "scales" | "zeroPoints">,
): Known {
  return dequantisedWeight(node, knownAt(lifter, node, weight), {
    scales: knownAt(lifter, node, scales),
    zeroPoints: optionalKnown(lifter, node, zeroPoints),
  });
}

function product(
  lifter: Lifter,
  node: GraphNode,
  { x, weight: { weight }, dynamic }: { x: Form; weight: Known; dynamic: boolean },
): Form {
  if (weight?.dims.length !== 2) throw new Unliftable(node.name, `${node.opType} with other than a matrix`);
  const attributes = dynamic ? { dynamic } : {};
  return linear(lifter, node, { x, weights: { weight }, width: weight.dims[1]!, attributes });
}

function withBias(lifter: Lifter, node: GraphNode, x: Form, input: number): Form {
  const bias = optionalKnown(lifter, node, input);
  return bias === null ? x : vectorOperation(lifter, node, { x, operand: bias, operation: "Add" });
}
