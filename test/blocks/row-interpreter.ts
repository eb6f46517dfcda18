import type { RowNode, RowProgram } from "../../src/canonical/rows.ts";
import { streamWeight } from "../../src/canonical/weight-bytes.ts";
import type { Weight } from "../../src/canonical/weights.ts";

/** A row of one token. */
type Row = Float64Array;

/** What a row program means, said as plainly as possible and in doubles: what emitted graphs are held against. */
export async function interpretRows(
  program: RowProgram,
  output: number,
  given: { id: number; row: Row; position: number },
): Promise<Row> {
  const weights = new Map<Weight, Float32Array>();
  for (const { weights: used } of program.nodes)
    for (const weight of Object.values(used))
      weights.set(weight, new Float32Array((await weightBytesOf(weight)).buffer));
  const rows = new Map<number, Row>([[given.id, given.row]]);
  const row = (id: number): Row => {
    const known = rows.get(id);
    if (known !== undefined) return known;
    const node = program.node(id);
    const made = interpretNode(node, node.inputs.map(row), {
      weight: (name) => weights.get(node.weights[name]!)!,
      position: given.position,
    });
    if (made.length !== node.width) throw new Error(`${node.op} gives ${made.length} numbers, not ${node.width}`);
    rows.set(id, made);
    return made;
  };
  return row(output);
}

/** A weight's canonical bytes, all at once. */
export async function weightBytesOf(weight: Weight): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of streamWeight(weight)) chunks.push(chunk.slice());
  return new Uint8Array(Buffer.concat(chunks));
}

interface Context {
  weight: (name: string) => Float32Array;
  position: number;
}

function interpretNode(node: RowNode, inputs: Row[], { weight, position }: Context): Row {
  const [x, y] = inputs as [Row, Row];
  const { attributes, width } = node;
  switch (node.op) {
    case "linear":
      return make(width, (column) => sum(x.length, (i) => x[i]! * weight("weight")[i * width + column]!));
    case "norm":
      return normalise(node, x, weight);
    case "unary":
      return x.map(UNARY[attributes.function!]!);
    case "scalar":
      return x.map((value) => BINARY[attributes.function!]!(value, attributes.value!));
    case "vector": {
      const operand = weight("operand");
      return x.map((value, i) => BINARY[attributes.function!]!(value, operand[i % operand.length]!));
    }
    case "binary":
      return make(width, (i) => BINARY[attributes.function!]!(spreadAt(x, i, width), spreadAt(y, i, width)));
    case "columns":
      return Float64Array.from(attributes.columns!, (column) => x[column]!);
    case "concat":
      return Float64Array.from(inputs.flatMap((each) => [...each]));
    case "mean": {
      const size = x.length / attributes.groups!;
      return make(attributes.groups!, (group) => sum(size, (i) => x[group * size + i]!) / size);
    }
    case "sum": {
      const size = x.length / attributes.groups!;
      return make(attributes.groups!, (group) => sum(size, (i) => x[group * size + i]!));
    }
    case "softmax":
      return softmax(x, attributes.groups!);
    case "top":
      return largest(x, attributes.groups!, attributes.count!);
    case "pick":
      return y.map((column, i) => x[groupStart(i, y.length, x.length, attributes.groups!) + column]!);
    case "spread":
      return spread(node, attributes.value === undefined ? x : null, inputs.at(-1)!);
    case "onehot":
      return make(width, (i) => Number(x[Math.floor(i / attributes.count!)] === i % attributes.count!));
    case "not":
      return x.map((value) => 1 - value);
    case "fill":
      return y.map((value, i) => ((x[i] !== 0) === (attributes.function === "Where") ? attributes.value! : value));
    case "mixture":
      return make(width, (i) => sum(inputs.length, (term) => inputs[term]![i]!));
    case "rotary":
      return rotate(node, x, position);
    default:
      throw new Error(`${node.op} is not row-wise`);
  }
}

/** Where the group of element i of a row of `length` begins in a row of `total`. */
function groupStart(i: number, length: number, total: number, groups: number): number {
  return Math.floor(i / (length / groups)) * (total / groups);
}

function softmax(x: Row, groups: number): Row {
  const size = x.length / groups;
  return x.map((value, i) => {
    const group = x.subarray(i - (i % size), i - (i % size) + size);
    return Math.exp(value) / sum(size, (j) => Math.exp(group[j]!));
  });
}

function largest(x: Row, groups: number, count: number): Row {
  const size = x.length / groups;
  const found = Array.from({ length: groups }, (_, group) =>
    [...x.subarray(0, size).keys()]
      // As float32: what is equal there is taken in order.
      .toSorted((a, b) => Math.fround(x[group * size + b]!) - Math.fround(x[group * size + a]!) || a - b)
      .slice(0, count),
  );
  return Float64Array.from(found.flat());
}

function spread({ attributes, width }: RowNode, values: Row | null, columns: Row): Row {
  const row = new Float64Array(width);
  columns.forEach((column, i) => {
    row[groupStart(i, columns.length, width, attributes.groups!) + column] =
      values === null ? attributes.value! : values[i]!;
  });
  return row;
}

/** A narrower row holds one number for each run of the wider one. */
function spreadAt(row: Row, i: number, width: number): number {
  return row[Math.floor(i / (width / row.length))]!;
}

function normalise({ attributes, weights, width }: RowNode, x: Row, weight: Context["weight"]): Row {
  const size = width / attributes.groups!;
  return make(width, (i) => {
    const group = x.subarray(i - (i % size), i - (i % size) + size);
    const mean = attributes.kind === "layer" ? sum(size, (j) => group[j]!) / size : 0;
    const variance = sum(size, (j) => (group[j]! - mean) ** 2) / size;
    const normed = (x[i]! - mean) / Math.sqrt(variance + attributes.epsilon!);
    const scaled = weights["weight"] === undefined ? normed : normed * weight("weight")[i % size]!;
    return weights["bias"] === undefined ? scaled : scaled + weight("bias")[i % size]!;
  });
}

function rotate({ attributes, width }: RowNode, x: Row, position: number): Row {
  const { dim, interleaved, frequencies, scale } = attributes.rotary!;
  if (frequencies.kind !== "list") throw new Error("the interpreter rotates by listed frequencies");
  const size = width / attributes.heads!;
  return make(width, (i) => {
    const d = i % size;
    if (d >= dim) return x[i]!;
    const pair = interleaved ? d >> 1 : d % (dim / 2);
    const upper = interleaved ? d % 2 === 1 : d >= dim / 2;
    const partner = i - d + (interleaved ? d ^ 1 : (d + dim / 2) % dim);
    const angle = Math.fround(position * Math.fround(frequencies.values[pair]!));
    return scale * (x[i]! * Math.cos(angle) + (upper ? 1 : -1) * x[partner]! * Math.sin(angle));
  });
}

const UNARY: Record<string, (x: number) => number> = {
  Silu: (x) => x / (1 + Math.exp(-x)),
  Gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  GeluTanh: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  Sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  Tanh: Math.tanh,
  Erf: erf,
  Relu: (x) => Math.max(0, x),
  Softplus: (x) => Math.log1p(Math.exp(x)),
  Abs: Math.abs,
};

const BINARY: Record<string, (a: number, b: number) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Min: Math.min,
  Max: Math.max,
  Pow: (a, b) => a ** b,
};

export const UNARY_NAMES = Object.keys(UNARY);

/** Abramowitz and Stegun 7.1.26, to 1.5e-7. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const curve = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - curve * Math.exp(-x * x));
}

function make(length: number, at: (i: number) => number): Row {
  return Float64Array.from({ length }, (_, i) => at(i));
}

function sum(length: number, at: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < length; i++) total += at(i);
  return total;
}
