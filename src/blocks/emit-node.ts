import type { RowNode } from "../canonical/rows.ts";
import { toRanges, transposeWeight, type Weight } from "../canonical/weights.ts";
import type { Attribute, GraphNode, TensorInfo } from "../onnx/model.ts";

/** The graph under construction. */
export interface Emitter {
  nodes: GraphNode[];
  constants: Map<string, TensorInfo>;
  weights: Map<string, Weight>;
  counts: Map<string, number>;
  /** The head's projection is stored [vocabulary, hidden], so that a tied embedding is the same tensor. */
  tableByVocabulary: boolean;
}

export interface Wiring {
  inputs: string[];
  widths: number[];
  /** The port this node's result leaves by; null: an inner value. */
  output: string | null;
}

/** Appends the ONNX nodes that compute one row node for rows [1, N, width]; returns the result's name. */
export function emitNode(emitter: Emitter, node: RowNode, wiring: Wiring): string {
  const emit = EMITTERS[node.op];
  if (emit === undefined) throw new Error(`row node ${node.op} does not belong in a part`);
  const name = fresh(emitter, node.attributes.function?.toLowerCase() ?? node.op);
  return emit({ emitter, node, name, ...wiring, output: wiring.output ?? name });
}

interface Emission extends Wiring {
  emitter: Emitter;
  node: RowNode;
  /** A name unique in this part, for weights and inner values. */
  name: string;
  output: string;
}

const EMITTERS: Partial<Record<RowNode["op"], (emission: Emission) => string>> = {
  embed: emitEmbed,
  linear: emitLinear,
  norm: emitNorm,
  unary: emitUnary,
  scalar: ({ emitter, node, inputs, name, output }) => add(emitter, { opType: node.attributes.function!, inputs: [inputs[0]!, scalar(emitter, name, node.attributes.value!)], output }),
  vector: emitVector,
  binary: emitBinary,
  columns: emitColumns,
  concat: ({ emitter, inputs, output }) => add(emitter, { opType: "Concat", inputs, output, attributes: { axis: int(2) } }),
  experts: emitExperts,
  mean: emitMean,
  rotary: ({ emitter, node, inputs, output }) => {
    const { rotary, heads } = node.attributes;
    const partial = node.width / heads! === rotary!.dim ? 0 : rotary!.dim;
    return add(emitter, { opType: "RotaryEmbedding", inputs: [inputs[0]!, "cos", "sin"], output, attributes: { num_heads: int(heads!), rotary_embedding_dim: int(partial), interleaved: int(rotary!.interleaved ? 1 : 0) } });
  },
};

function emitEmbed({ emitter, node, inputs, name, output }: Emission): string {
  const { bits, blockSize, offset } = node.attributes;
  let index = inputs[0] ?? "positions";
  if (inputs.length === 0 && offset! > 0) index = add(emitter, { opType: "Add", inputs: ["positions", integers(emitter, `${name}.offset`, [offset!])], output: `${name}.index` });
  const table = weight(emitter, `${name}.table`, node.weights["table"]!);
  if (bits === undefined) return asFloat(emitter, node.weights["table"]!, { opType: "Gather", inputs: [table, index], output });
  const scales = floatWeight(emitter, `${name}.scales`, node.weights["scales"]!);
  const zeroPoints = node.weights["zeroPoints"] === undefined ? [] : [weight(emitter, `${name}.zeroPoints`, node.weights["zeroPoints"])];
  return add(emitter, {
    opType: "GatherBlockQuantized",
    domain: "com.microsoft",
    inputs: [table, index, scales, ...zeroPoints],
    output,
    attributes: { bits: int(bits), block_size: int(blockSize!), gather_axis: int(0), quantize_axis: int(1) },
  });
}

function emitLinear({ emitter, node, inputs, name, output }: Emission): string {
  const { bits, blockSize, accuracyLevel, inputWidth, bnb4 } = node.attributes;
  const given = node.weights["weight"]!;
  if (bnb4 !== undefined) {
    // The operator takes both flat.
    const flat = (weight_: Weight): Weight => ({ ...weight_, dims: [weight_.dims[0]! * weight_.dims[1]!] });
    const operands = [inputs[0]!, weight(emitter, `${name}.weight`, flat(given)), weight(emitter, `${name}.scales`, flat(node.weights["scales"]!))];
    return add(emitter, { opType: "MatMulBnb4", domain: "com.microsoft", inputs: operands, output, attributes: { K: int(inputWidth!), N: int(node.width), block_size: int(blockSize!), quant_type: int(bnb4) } });
  }
  if (bits !== undefined) {
    const blocks = Math.ceil(inputWidth! / blockSize!);
    const packed = weight(emitter, `${name}.weight`, { ...given, dims: [node.width, blocks, (blockSize! * bits) / 8] });
    const scales = floatWeight(emitter, `${name}.scales`, node.weights["scales"]!);
    const zeroPoints = node.weights["zeroPoints"] === undefined ? [] : [zeroPointsOf(emitter, `${name}.zeroPoints`, node.weights["zeroPoints"])];
    const attributes = { K: int(inputWidth!), N: int(node.width), bits: int(bits), block_size: int(blockSize!), accuracy_level: int(accuracyLevel!) };
    return add(emitter, { opType: "MatMulNBits", domain: "com.microsoft", inputs: [inputs[0]!, packed, scales, ...zeroPoints], output, attributes });
  }
  if (node.attributes.dynamic === true) return emitDynamic(emitter, { node, x: inputs[0]!, name, output });
  if (emitter.tableByVocabulary && given.dequantize === undefined) {
    const table = floatWeight(emitter, `${name}.weight`, transposeWeight(given));
    return add(emitter, { opType: "FusedMatMul", domain: "com.microsoft", inputs: [inputs[0]!, table], output, attributes: { transB: int(1) } });
  }
  return add(emitter, { opType: "MatMul", inputs: [inputs[0]!, floatWeight(emitter, `${name}.weight`, given)], output });
}

/**
 * DynamicQuantizeLinear (uint8) row by row: its scale over all rows of a call would make a token's result depend on
 * its neighbours. The integers are exact in float32, so the product is MatMulInteger's up to one rounding.
 */
function emitDynamic(emitter: Emitter, { node, x, name, output }: { node: RowNode; x: string; name: string; output: string }): string {
  const step = (opType: string, inputs: string[], label: string, attributes: Record<string, Attribute> = {}): string => add(emitter, { opType, inputs, output: `${name}.${label}`, attributes });
  const constant = (label: string, value: number): string => scalar(emitter, `${name}.${label}`, value);
  const [zero, one, most] = [constant("zero", 0), constant("one", 1), constant("most", 255)];
  const axis = integers(emitter, `${name}.axis`, [-1]);
  const high = step("Max", [step("ReduceMax", [x, axis], "max"), zero], "high");
  const low = step("Min", [step("ReduceMin", [x, axis], "min"), zero], "low");
  const width = step("Div", [step("Sub", [high, low], "span"), most], "width");
  const scale = step("Where", [step("Equal", [width, zero], "flat"), one, width], "scale");
  const offset = step("Clip", [step("Round", [step("Neg", [step("Div", [low, scale], "lowest")], "negated")], "rounded"), zero, most], "offset");
  const shifted = step("Add", [step("Round", [step("Div", [x, scale], "scaled")], "integers"), offset], "shifted");
  const centred = step("Sub", [step("Clip", [shifted, zero, most], "clipped"), offset], "centred");
  const product = step("MatMul", [centred, floatWeight(emitter, `${name}.weight`, node.weights["weight"]!)], "product");
  return add(emitter, { opType: "Mul", inputs: [product, scale], output });
}

function emitNorm({ emitter, node, inputs, name, output }: Emission): string {
  const { kind, epsilon, groups } = node.attributes;
  const size = node.width / groups!;
  const given = node.weights["weight"];
  const scale = given === undefined ? ones(emitter, `${name}.weight`, size) : floatWeight(emitter, `${name}.weight`, given);
  const bias = node.weights["bias"] === undefined ? [] : [floatWeight(emitter, `${name}.bias`, node.weights["bias"])];
  const x = groups === 1 ? inputs[0]! : reshape(emitter, inputs[0]!, { shape: [0, 0, groups!, size], output: `${name}.groups` });
  const normed = add(emitter, {
    opType: kind === "layer" ? "LayerNormalization" : "RMSNormalization",
    inputs: [x, scale, ...bias],
    output: groups === 1 ? output : `${name}.normed`,
    attributes: { axis: int(-1), epsilon: { kind: "float", value: Math.fround(epsilon!) } },
  });
  return groups === 1 ? normed : reshape(emitter, normed, { shape: [0, 0, node.width], output });
}

function emitUnary({ emitter, node, inputs, name, output }: Emission): string {
  const [x] = inputs as [string];
  switch (node.attributes.function) {
    case "Silu": {
      const gate = add(emitter, { opType: "Sigmoid", inputs: [x], output: `${name}.gate` });
      return add(emitter, { opType: "Mul", inputs: [x, gate], output });
    }
    case "Gelu":
      return add(emitter, { opType: "Gelu", inputs: [x], output });
    case "GeluTanh":
      return add(emitter, { opType: "Gelu", inputs: [x], output, attributes: { approximate: { kind: "string", value: "tanh" } } });
    default:
      return add(emitter, { opType: node.attributes.function!, inputs: [x], output });
  }
}

function emitVector({ emitter, node, inputs, name, output }: Emission): string {
  const given = node.weights["operand"]!;
  const operand = floatWeight(emitter, `${name}.operand`, given);
  const size = given.dims[0]!;
  if (size === node.width) return add(emitter, { opType: node.attributes.function!, inputs: [inputs[0]!, operand], output });
  const x = reshape(emitter, inputs[0]!, { shape: [0, 0, node.width / size, size], output: `${name}.groups` });
  const result = add(emitter, { opType: node.attributes.function!, inputs: [x, operand], output: `${name}.grouped` });
  return reshape(emitter, result, { shape: [0, 0, node.width], output });
}

/** A narrower operand holds one number per group of the wider one. */
function emitBinary({ emitter, node, inputs, widths, name, output }: Emission): string {
  const groups = Math.min(...widths);
  if (groups === node.width || groups === 1) return add(emitter, { opType: node.attributes.function!, inputs, output });
  const grouped = inputs.map((input, i) => reshape(emitter, input, { shape: [0, 0, groups, widths[i]! / groups], output: `${name}.groups${i}` }));
  const result = add(emitter, { opType: node.attributes.function!, inputs: grouped, output: `${name}.grouped` });
  return reshape(emitter, result, { shape: [0, 0, node.width], output });
}

function emitColumns({ emitter, node, inputs, name, output }: Emission): string {
  const columns = node.attributes.columns!;
  const ranges = toRanges(columns);
  const [range] = ranges;
  if (ranges.length > 1) return add(emitter, { opType: "Gather", inputs: [inputs[0]!, integers(emitter, `${name}.columns`, columns)], output, attributes: { axis: int(2) } });
  const bound = (label: string, value: number): string => integers(emitter, `${name}.${label}`, [value]);
  return add(emitter, { opType: "Slice", inputs: [inputs[0]!, bound("start", range!.start), bound("end", range!.start + range!.length), bound("axis", 2)], output });
}

function emitExperts({ emitter, node, inputs, widths, name, output }: Emission): string {
  const { domain, opType, attributes } = node.attributes.operator!;
  const router = reshape(emitter, inputs[1]!, { shape: [-1, widths[1]!], output: `${name}.router` });
  const last = Math.max(...Object.keys(node.weights).map((key) => Number(key.slice("input".length))));
  const operands = Array.from({ length: last - 1 }, (_, i) => {
    const given = node.weights[`input${i + 2}`];
    return given === undefined ? "" : weight(emitter, `${name}.input${i + 2}`, given);
  });
  return add(emitter, { opType, domain, inputs: [inputs[0]!, router, ...operands], output, attributes: Object.fromEntries(attributes) });
}

function emitMean({ emitter, node, inputs, widths, name, output }: Emission): string {
  const groups = node.attributes.groups!;
  const axis = integers(emitter, `${name}.axis`, [-1]);
  if (groups === 1) return add(emitter, { opType: "ReduceMean", inputs: [inputs[0]!, axis], output, attributes: { keepdims: int(1) } });
  const x = reshape(emitter, inputs[0]!, { shape: [0, 0, groups, widths[0]! / groups], output: `${name}.groups` });
  return add(emitter, { opType: "ReduceMean", inputs: [x, axis], output, attributes: { keepdims: int(0) } });
}

interface Operation {
  opType: string;
  domain?: string;
  inputs: string[];
  output: string;
  attributes?: Record<string, Attribute>;
}

function add(emitter: Emitter, { opType, domain = "", inputs, output, attributes = {} }: Operation): string {
  emitter.nodes.push({ name: output, opType, domain, inputs, outputs: [output], attributes: new Map(Object.entries(attributes)) });
  return output;
}

function reshape(emitter: Emitter, input: string, { shape, output }: { shape: number[]; output: string }): string {
  return add(emitter, { opType: "Reshape", inputs: [input, integers(emitter, `shape${shape.join("_")}`, shape)], output });
}

function weight(emitter: Emitter, name: string, value: Weight): string {
  emitter.weights.set(name, value);
  return name;
}

/** Half-precision weights stay as they came and become float32 when the graph is loaded. */
function floatWeight(emitter: Emitter, name: string, value: Weight): string {
  weight(emitter, name, value);
  if (value.dequantize !== undefined) return dequantised(emitter, name, value.dequantize);
  if (value.tensor.dtype === "float32") return name;
  return add(emitter, { opType: "Cast", inputs: [name], output: `${name}.float`, attributes: { to: int(1) } });
}

/** Packed integers, or one float per block. */
function zeroPointsOf(emitter: Emitter, name: string, value: Weight): string {
  return value.tensor.dtype === "uint8" ? weight(emitter, name, value) : floatWeight(emitter, name, value);
}

function dequantised(emitter: Emitter, name: string, { scales, zeroPoints, axis, blockSize }: NonNullable<Weight["dequantize"]>): string {
  const operands = [name, floatWeight(emitter, `${name}.scales`, scales), ...(zeroPoints === null ? [] : [weight(emitter, `${name}.zeroPoints`, zeroPoints)])];
  const attributes = { axis: int(axis), ...(blockSize === 0 ? {} : { block_size: int(blockSize) }) };
  return add(emitter, { opType: "DequantizeLinear", inputs: operands, output: `${name}.float`, attributes });
}

function asFloat(emitter: Emitter, table: Weight, operation: Operation): string {
  if (table.tensor.dtype === "float32") return add(emitter, operation);
  const stored = add(emitter, { ...operation, output: `${operation.output}.stored` });
  return add(emitter, { opType: "Cast", inputs: [stored], output: operation.output, attributes: { to: int(1) } });
}

function integers(emitter: Emitter, name: string, values: number[]): string {
  const bytes = new Uint8Array(BigInt64Array.from(values.map((value) => BigInt(value))).buffer);
  emitter.constants.set(name, { name, dtype: "int64", dims: [values.length], data: { kind: "bytes", bytes } });
  return name;
}

function scalar(emitter: Emitter, name: string, value: number): string {
  const constant = `${name}.value`;
  emitter.constants.set(constant, { name: constant, dtype: "float32", dims: [], data: { kind: "bytes", bytes: new Uint8Array(Float32Array.of(value).buffer) } });
  return constant;
}

function ones(emitter: Emitter, name: string, size: number): string {
  emitter.constants.set(name, { name, dtype: "float32", dims: [size], data: { kind: "bytes", bytes: new Uint8Array(new Float32Array(size).fill(1).buffer) } });
  return name;
}

function int(value: number): Attribute {
  return { kind: "int", value };
}

function fresh(emitter: Emitter, stem: string): string {
  const count = (emitter.counts.get(stem) ?? 0) + 1;
  emitter.counts.set(stem, count);
  return `${stem}${count}`;
}
