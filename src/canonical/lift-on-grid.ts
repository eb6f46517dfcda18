import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, rowsOf, scaleForm, shapeOnly } from "./form.ts";
import { addScalar, tokensFirst } from "./lift-rows.ts";
import { knownAt, optionalKnown, valueOf, type Lift, type Lifter } from "./lifter.ts";
import { intAttribute } from "./movement.ts";
import type { Grid } from "./specifications.ts";
import { lazyKnown, scalarOf, Unliftable, type Form, type Quantised, type Value } from "./value.ts";

/** QuantizeLinear with a scale of the file: integers, until DequantizeLinear or a product of integers takes them. */
export const liftQuantize: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  const grid = gridAt(lifter, node, 1);
  if (x.kind === "known") return [lazyKnown(x.dims, "int", () => x.read().map((each) => integerOf(each, grid)))];
  if (x.kind !== "form") throw new Unliftable(node.name, `QuantizeLinear of ${x.kind} values`);
  return [integersOf(x, grid)];
};

export function integersOf(rows: Form, grid: Grid): Quantised {
  return { kind: "quantised", dims: rows.dims, rows, part: "integers", weight: null, zeroPoints: null, grid };
}

/** Integers as the numbers they stand for: rows rounded to a grid, or rows of an integer table. */
export function rowsOnGrid(lifter: Lifter, node: GraphNode, x: Value, grid: Grid): Form {
  if (x.kind === "form") return scaleForm(addScalar(lifter, node, x, -grid.zero), grid.scale);
  if (x.kind !== "quantised" || x.grid === undefined || JSON.stringify(x.grid) !== JSON.stringify(grid))
    throw new Unliftable(node.name, `${node.opType} of integers that mean something else`);
  if (lifter.probe.shapesOnly) return shapeOnly(x.dims);
  return tokensFirst(lifter, [x.rows], ([ordered]) => {
    const { node: source, width, tokens } = rowsOf(lifter.program, ordered!, node);
    const id = lifter.program.add({ op: "rounded", inputs: [source], width, attributes: { grid }, weights: {} });
    return formOfRows(lifter.program, id, tokens, ordered!.dims);
  });
}

export function gridAt(lifter: Lifter, node: GraphNode, inputs: number | [scale: number, zero: number]): Grid {
  const [scaleInput, zeroInput] = typeof inputs === "number" ? [inputs, inputs + 1] : inputs;
  const scale = scalarOf(knownAt(lifter, node, scaleInput));
  const zeroPoint = optionalKnown(lifter, node, zeroInput);
  const zero = zeroPoint === null ? 0 : scalarOf(zeroPoint);
  const integer = zeroPoint === null ? DTYPES[intAttribute(node, "output_dtype", 2)] : zeroPoint.weight?.tensor.dtype;
  if (scale === null || zero === null || !isInteger(integer))
    throw new Unliftable(node.name, `${node.opType} of rows with more than one scale, or to integers of ${integer}`);
  return { scale, zero, integer };
}

/** ONNX numbers of element types. */
const DTYPES: Record<number, string> = { 2: "uint8", 3: "int8", 4: "uint16", 5: "int16" };

function isInteger(dtype: string | undefined): dtype is Grid["integer"] {
  return Object.values(DTYPES).includes(dtype ?? "");
}

function integerOf(value: number, { scale, zero, integer }: Grid): number {
  const [low, high] = RANGES[integer];
  return Math.min(high, Math.max(low, halfToEven(value / scale) + zero));
}

const RANGES: Record<Grid["integer"], [number, number]> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65_535],
  int16: [-32_768, 32_767],
};

function halfToEven(value: number): number {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}
