import type { RowNode } from "../canonical/rows.ts";
import type { Weight } from "../canonical/weights.ts";
import type { Attribute, GraphNode, TensorInfo } from "../onnx/model.ts";

/** The graph under construction. */
export interface Emitter {
  nodes: GraphNode[];
  constants: Map<string, TensorInfo>;
  weights: Map<string, Weight>;
  counts: Map<string, number>;
  /** What adapters add to the projections; not part of the graph. */
  factors: EmittedFactors[];
  /** The head's projection is stored [vocabulary, hidden], so that a tied embedding is the same tensor. */
  tableByVocabulary: boolean;
}

/** A projection gives x·W + scale · (x·down)·up; `weight` is W's name in the graph. */
export interface EmittedFactors {
  weight: string;
  down: Weight;
  up: Weight;
  scale: number;
}

export interface Wiring {
  inputs: string[];
  widths: number[];
  /** The port this node's result leaves by; null: an inner value. */
  output: string | null;
}

export interface Emission extends Wiring {
  emitter: Emitter;
  node: RowNode;
  /** A name unique in this part, for weights and inner values. */
  name: string;
  output: string;
}

export interface Operation {
  opType: string;
  domain?: string;
  inputs: string[];
  output: string;
  attributes?: Record<string, Attribute>;
}

export function add(emitter: Emitter, { opType, domain = "", inputs, output, attributes = {} }: Operation): string {
  emitter.nodes.push({
    name: output,
    opType,
    domain,
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  });
  return output;
}

export function reshape(
  emitter: Emitter,
  input: string,
  { shape, output }: { shape: number[]; output: string },
): string {
  return add(emitter, {
    opType: "Reshape",
    inputs: [input, integers(emitter, `shape${shape.join("_")}`, shape)],
    output,
  });
}

export function weight(emitter: Emitter, name: string, value: Weight): string {
  emitter.weights.set(name, value);
  return name;
}

/** Half-precision weights stay as they came and become float32 when the graph is loaded. */
export function floatWeight(emitter: Emitter, name: string, value: Weight): string {
  weight(emitter, name, value);
  if (value.dequantize !== undefined) return dequantised(emitter, name, value.dequantize);
  if (value.tensor.dtype === "float32") return name;
  return add(emitter, { opType: "Cast", inputs: [name], output: `${name}.float`, attributes: { to: int(1) } });
}

function dequantised(
  emitter: Emitter,
  name: string,
  { scales, zeroPoints, axis, blockSize }: NonNullable<Weight["dequantize"]>,
): string {
  const operands = [
    name,
    floatWeight(emitter, `${name}.scales`, scales),
    ...(zeroPoints === null ? [] : [weight(emitter, `${name}.zeroPoints`, zeroPoints)]),
  ];
  const attributes = { axis: int(axis), ...(blockSize === 0 ? {} : { block_size: int(blockSize) }) };
  return add(emitter, { opType: "DequantizeLinear", inputs: operands, output: `${name}.float`, attributes });
}

export function integers(emitter: Emitter, name: string, values: number[]): string {
  const bytes = new Uint8Array(BigInt64Array.from(values.map((value) => BigInt(value))).buffer);
  emitter.constants.set(name, { name, dtype: "int64", dims: [values.length], data: { kind: "bytes", bytes } });
  return name;
}

export function scalar(emitter: Emitter, name: string, value: number): string {
  const constant = `${name}.value`;
  emitter.constants.set(constant, {
    name: constant,
    dtype: "float32",
    dims: [],
    data: { kind: "bytes", bytes: new Uint8Array(Float32Array.of(value).buffer) },
  });
  return constant;
}

export function ones(emitter: Emitter, name: string, size: number): string {
  emitter.constants.set(name, {
    name,
    dtype: "float32",
    dims: [size],
    data: { kind: "bytes", bytes: new Uint8Array(new Float32Array(size).fill(1).buffer) },
  });
  return name;
}

export function int(value: number): Attribute {
  return { kind: "int", value };
}

export function fresh(emitter: Emitter, stem: string): string {
  const count = (emitter.counts.get(stem) ?? 0) + 1;
  emitter.counts.set(stem, count);
  return `${stem}${count}`;
}
