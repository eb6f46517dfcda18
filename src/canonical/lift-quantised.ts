import type { GraphNode } from "../onnx/model.ts";
import { scaleForm } from "./form.ts";
import { linear } from "./lift-linear.ts";
import { gridAt, rowsOnGrid } from "./lift-on-grid.ts";
import { addScalar } from "./lift-rows.ts";
import { formAt, knownAt, optionalKnown, valueOf, type Lift, type Lifter } from "./lifter.ts";
import { intAttribute, positive } from "./movement.ts";
import { count, lazyKnown, scalarOf, Unliftable, type Known, type Quantised, type Value } from "./value.ts";
import type { Weight } from "./weights.ts";

/** DequantizeLinear of a weight stays with the weight; of rows (a quantised embedding) it is arithmetic on the row. */
export const liftDequantize: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  const scales = knownAt(lifter, node, 1);
  const zeroPoints = optionalKnown(lifter, node, 2);
  if (x.kind === "quantised") return [rowsOnGrid(lifter, node, x, gridAt(lifter, node, 1))];
  const scale = scalarOf(scales);
  const zero = zeroPoints === null ? 0 : scalarOf(zeroPoints);
  const computed = x.kind === "known" && x.weight === null && x.table === null;
  if (computed && scale !== null && zero !== null)
    return [lazyKnown(x.dims, "float", () => x.read().map((each) => Math.fround((each - zero) * scale)))];
  if (x.kind === "known") return [dequantisedWeight(node, x, { scales, zeroPoints })];
  if (x.kind !== "form" || scale === null || zero === null)
    throw new Unliftable(node.name, "DequantizeLinear of rows with more than one scale");
  return [scaleForm(addScalar(lifter, node, x, -zero), scale)];
};

export function dequantisedWeight(
  node: GraphNode,
  x: Known,
  { scales, zeroPoints }: { scales: Known; zeroPoints: Known | null },
): Known {
  if (x.weight === null && x.table !== null) return dequantisedRows(node, x, { scales, zeroPoints });
  if (x.weight === null || scales.weight === null || (zeroPoints !== null && zeroPoints.weight === null))
    throw new Unliftable(node.name, `${node.opType} of something computed in the graph`);
  const axis = positive(intAttribute(node, "axis", 1), x.dims.length);
  const dequantize = {
    scales: scales.weight,
    zeroPoints: zeroPoints?.weight ?? null,
    axis,
    blockSize: intAttribute(node, "block_size", 0),
  };
  const unread = (): Float64Array => {
    throw new Unliftable(node.name, "arithmetic on a quantised weight");
  };
  return { ...lazyKnown(x.dims, "float", unread), weight: { ...x.weight, dequantize } };
}

/** Rows picked by position from an integer table with one scale: learned positions, quantised. */
function dequantisedRows(
  node: GraphNode,
  x: Known,
  { scales, zeroPoints }: { scales: Known; zeroPoints: Known | null },
): Known {
  const [scale, zero] = [scalarOf(scales), zeroPoints === null ? 0 : scalarOf(zeroPoints)];
  if (scale === null || zero === null || scales.weight === null)
    throw new Unliftable(node.name, "a table of positions with more than one scale");
  const dequantize = { scales: scales.weight, zeroPoints: zeroPoints?.weight ?? null, axis: 0, blockSize: 0 };
  const numbers = lazyKnown(x.dims, "float", () => x.read().map((each) => Math.fround((each - zero) * scale)));
  return { ...numbers, table: { ...x.table!, weight: { ...x.table!.weight, dequantize } } };
}

/** DynamicQuantizeLinear → MatMulInteger → Cast → Mul by both scales: a product with rows rounded to 8 bits. */
export const liftDynamicQuantize: Lift = (lifter, node) => {
  const rows = formAt(lifter, node, 0);
  const part = (name: Quantised["part"], dims: number[]): Quantised => ({
    kind: "quantised",
    dims,
    rows,
    part: name,
    weight: null,
    zeroPoints: null,
  });
  return [part("integers", rows.dims), part("scale", []), part("zero point", [])];
};

export const liftMatMulInteger: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  const weight = knownAt(lifter, node, 1);
  const zeroPoints = optionalKnown(lifter, node, 3);
  const rounded = x.kind === "quantised" && x.part === "integers" && x.grid === undefined;
  if (!rounded || weight.weight === null || weight.dims.length !== 2)
    throw new Unliftable(node.name, "MatMulInteger of other than quantised rows and a weight");
  const dims = [...x.dims.slice(0, -1), weight.dims[1]!];
  if (zeroPoints !== null && zeroPoints.weight === null)
    throw new Unliftable(node.name, "MatMulInteger with a zero point computed in the graph");
  return [
    { ...x, dims, part: "product", weight: weight.weight, zeroPoints: zeroPoints?.weight ?? null } satisfies Quantised,
  ];
};

/** Mul among the parts: scale × weight scale, then product × that: the projection. */
export function multiplyQuantised(lifter: Lifter, node: GraphNode, left: Value, right: Value): Value {
  const [x, other] = left.kind === "quantised" && left.part !== "product scale" ? [left, right] : [right, left];
  if (x.kind !== "quantised") throw new Unliftable(node.name, `${node.opType} with quantised rows`);
  if (x.part === "scale" && other.kind === "known" && other.weight !== null)
    return { ...x, part: "product scale", weight: other.weight, dims: other.dims };
  if (x.part === "scale" && other.kind === "known")
    return { ...x, part: "product scale", weight: scalarWeight(node, other), dims: other.dims };
  if (x.part !== "product" || other.kind !== "quantised" || other.part !== "product scale" || other.rows !== x.rows)
    throw new Unliftable(node.name, "quantised rows are scaled in an unknown way");
  const dequantize = { scales: other.weight!, zeroPoints: x.zeroPoints, axis: 1, blockSize: 0 };
  const weight: Weight = { ...x.weight!, dequantize };
  return linear(lifter, node, {
    x: x.rows,
    weights: { weight },
    width: weight.dims[1]!,
    attributes: { dynamic: true },
  });
}

function scalarWeight(node: GraphNode, value: Known): Weight {
  if (count(value.dims) !== 1) throw new Unliftable(node.name, "a computed scale per column");
  return {
    tensor: {
      name: "",
      dtype: "float32",
      dims: [],
      data: { kind: "bytes", bytes: new Uint8Array(Float32Array.from(value.read()).buffer) },
    },
    rows: 1,
    columns: 1,
    take: null,
    transpose: false,
    dims: [],
  };
}
