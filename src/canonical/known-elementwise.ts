import type { GraphNode } from "../onnx/model.ts";
import { broadcastDims, broadcastTo } from "./movement.ts";
import { lazyKnown, type Known } from "./value.ts";

/** Elementwise ONNX operators on numbers. Float results are rounded to float32 as the runtime would. */
export function knownElementwise(node: GraphNode, inputs: Known[]): Known | null {
  const { opType } = node;
  if (opType === "Where") return where(node, inputs);
  const unary = UNARY[opType];
  if (unary !== undefined && inputs.length === 1) {
    const [x] = inputs as [Known];
    const type = BOOLEAN.has(opType) ? "bool" : x.type;
    return lazyKnown(x.dims, type, () => rounded(x.read().map(unary), type));
  }
  const binary = BINARY[opType];
  if (binary === undefined || inputs.length < 1) return null;
  return inputs.reduce((left, right) => combine(node, left, right, binary));
}

const UNARY: Record<string, (x: number) => number> = {
  Neg: (x) => -x,
  Sqrt: Math.sqrt,
  Reciprocal: (x) => 1 / x,
  Exp: Math.exp,
  Log: Math.log,
  Cos: Math.cos,
  Sin: Math.sin,
  Tanh: Math.tanh,
  Sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  Softplus: (x) => Math.log1p(Math.exp(x)),
  Relu: (x) => Math.max(0, x),
  Abs: Math.abs,
  Floor: Math.floor,
  Ceil: Math.ceil,
  Sign: Math.sign,
  Not: (x) => (x === 0 ? 1 : 0),
  IsNaN: (x) => (Number.isNaN(x) ? 1 : 0),
  IsInf: (x) => (Math.abs(x) === Infinity ? 1 : 0),
};

const BINARY: Record<string, (a: number, b: number, type: Known["type"]) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b, type) => (type === "int" ? Math.trunc(a / b) : a / b),
  Mod: (a, b) => a - b * Math.floor(a / b),
  Pow: (a, b) => a ** b,
  Min: (a, b) => Math.min(a, b),
  Max: (a, b) => Math.max(a, b),
  Equal: (a, b) => Number(a === b),
  Less: (a, b) => Number(a < b),
  LessOrEqual: (a, b) => Number(a <= b),
  Greater: (a, b) => Number(a > b),
  GreaterOrEqual: (a, b) => Number(a >= b),
  And: (a, b) => Number(a !== 0 && b !== 0),
  Or: (a, b) => Number(a !== 0 || b !== 0),
  Xor: (a, b) => Number((a !== 0) !== (b !== 0)),
};

const BOOLEAN = new Set([
  "Not",
  "IsNaN",
  "IsInf",
  "Equal",
  "Less",
  "LessOrEqual",
  "Greater",
  "GreaterOrEqual",
  "And",
  "Or",
  "Xor",
]);

function combine(
  node: GraphNode,
  left: Known,
  right: Known,
  compute: (a: number, b: number, type: Known["type"]) => number,
): Known {
  const dims = broadcastDims(left.dims, right.dims, node);
  const type = BOOLEAN.has(node.opType) ? "bool" : left.type;
  return lazyKnown(dims, type, () => {
    const a = spread(left, dims);
    const b = spread(right, dims);
    return rounded(
      a.map((value, i) => compute(value, b[i]!, left.type)),
      type,
    );
  });
}

function where(node: GraphNode, [condition, yes, no]: Known[]): Known {
  const dims = [condition!, yes!, no!].map((each) => each.dims).reduce((a, b) => broadcastDims(a, b, node));
  return lazyKnown(dims, yes!.type, () => {
    const a = spread(yes!, dims);
    const b = spread(no!, dims);
    return spread(condition!, dims).map((value, i) => (value !== 0 ? a[i]! : b[i]!));
  });
}

/** The numbers of `value` repeated to fill `dims`; a fresh array unless nothing repeats. */
export function spread(value: Known, dims: number[]): Float64Array {
  const data = value.read();
  const { from } = broadcastTo(value.dims, dims);
  return from === null ? data : Float64Array.from(from, (index) => data[index]!);
}

function rounded(data: Float64Array, type: Known["type"]): Float64Array {
  if (type === "float") for (let i = 0; i < data.length; i++) data[i] = Math.fround(data[i]!);
  return data;
}
