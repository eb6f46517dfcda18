import type { RowNode } from "../canonical/rows.ts";
import { toRanges } from "../canonical/weights.ts";
import { emitEmbed, emitLinear } from "./emit-linear.ts";
import { emitFill, emitNot, emitOneHot, emitPick, emitSoftmax, emitSpread, emitSum, emitTop } from "./emit-routing.ts";
import {
  add,
  floatWeight,
  fresh,
  int,
  integers,
  ones,
  reshape,
  scalar,
  weight,
  type Emission,
  type Emitter,
  type Wiring,
} from "./emitter.ts";

/** Appends the ONNX nodes that compute one row node for rows [1, N, width]; returns the result's name. */
export function emitNode(emitter: Emitter, node: RowNode, wiring: Wiring): string {
  const emit = EMITTERS[node.op];
  if (emit === undefined) throw new Error(`row node ${node.op} does not belong in a part`);
  const name = fresh(emitter, node.attributes.function?.toLowerCase() ?? node.op);
  return emit({ emitter, node, name, ...wiring, output: wiring.output ?? name });
}

const EMITTERS: Partial<Record<RowNode["op"], (emission: Emission) => string>> = {
  embed: emitEmbed,
  linear: emitLinear,
  norm: emitNorm,
  unary: emitUnary,
  scalar: ({ emitter, node, inputs, name, output }) =>
    add(emitter, {
      opType: node.attributes.function!,
      inputs: [inputs[0]!, scalar(emitter, name, node.attributes.value!)],
      output,
    }),
  vector: emitVector,
  binary: emitBinary,
  columns: emitColumns,
  concat: ({ emitter, inputs, output }) =>
    add(emitter, { opType: "Concat", inputs, output, attributes: { axis: int(2) } }),
  experts: emitExperts,
  mean: emitMean,
  sum: emitSum,
  softmax: emitSoftmax,
  top: emitTop,
  pick: emitPick,
  spread: emitSpread,
  onehot: emitOneHot,
  not: emitNot,
  fill: emitFill,
  rounded: emitRounded,
  rotary: ({ emitter, node, inputs, output }) => {
    const { rotary, heads } = node.attributes;
    const rotated = rotary!.dim * heads!;
    const partial = rotated === node.width ? 0 : rotary!.dim;
    return add(emitter, {
      opType: "RotaryEmbedding",
      inputs: [inputs[0]!, "cos", "sin"],
      output,
      attributes: {
        num_heads: int(heads!),
        rotary_embedding_dim: int(partial),
        interleaved: int(rotary!.interleaved ? 1 : 0),
      },
    });
  },
};

function emitNorm({ emitter, node, inputs, name, output }: Emission): string {
  const { kind, epsilon, groups } = node.attributes;
  const size = node.width / groups!;
  const given = node.weights["weight"];
  const scale =
    given === undefined ? ones(emitter, `${name}.weight`, size) : floatWeight(emitter, `${name}.weight`, given);
  const bias = node.weights["bias"] === undefined ? [] : [floatWeight(emitter, `${name}.bias`, node.weights["bias"])];
  const x =
    groups === 1
      ? inputs[0]!
      : reshape(emitter, inputs[0]!, { shape: [0, 0, groups!, size], output: `${name}.groups` });
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
    case "Half": {
      const rounded = add(emitter, {
        opType: "Cast",
        inputs: [x],
        output: `${name}.rounded`,
        attributes: { to: int(10) },
      });
      return add(emitter, { opType: "Cast", inputs: [rounded], output, attributes: { to: int(1) } });
    }
    case "Gelu":
      return add(emitter, { opType: "Gelu", inputs: [x], output });
    case "GeluTanh":
      return add(emitter, {
        opType: "Gelu",
        inputs: [x],
        output,
        attributes: { approximate: { kind: "string", value: "tanh" } },
      });
    default:
      return add(emitter, { opType: node.attributes.function!, inputs: [x], output });
  }
}

function emitRounded({ emitter, node, inputs, name, output }: Emission): string {
  const { scale, zero, integer } = node.attributes.grid!;
  const bytes = new Uint8Array(integer.endsWith("16") ? Uint16Array.of(zero).buffer : Uint8Array.of(zero).buffer);
  const zeroPoint = `${name}.zeroPoint`;
  emitter.constants.set(zeroPoint, { name: zeroPoint, dtype: integer, dims: [], data: { kind: "bytes", bytes } });
  const operands = [scalar(emitter, name, scale), zeroPoint];
  const stored = add(emitter, {
    opType: "QuantizeLinear",
    inputs: [inputs[0]!, ...operands],
    output: `${name}.integers`,
  });
  return add(emitter, { opType: "DequantizeLinear", inputs: [stored, ...operands], output });
}

function emitVector({ emitter, node, inputs, name, output }: Emission): string {
  const given = node.weights["operand"]!;
  const operand = floatWeight(emitter, `${name}.operand`, given);
  const size = given.dims[0]!;
  if (size === node.width)
    return add(emitter, { opType: node.attributes.function!, inputs: [inputs[0]!, operand], output });
  const x = reshape(emitter, inputs[0]!, { shape: [0, 0, node.width / size, size], output: `${name}.groups` });
  const result = add(emitter, { opType: node.attributes.function!, inputs: [x, operand], output: `${name}.grouped` });
  return reshape(emitter, result, { shape: [0, 0, node.width], output });
}

/** A narrower operand holds one number per group of the wider one. */
function emitBinary({ emitter, node, inputs, widths, name, output }: Emission): string {
  const groups = Math.min(...widths);
  if (groups === node.width || groups === 1) return add(emitter, { opType: node.attributes.function!, inputs, output });
  const grouped = inputs.map((input, i) =>
    reshape(emitter, input, { shape: [0, 0, groups, widths[i]! / groups], output: `${name}.groups${i}` }),
  );
  const result = add(emitter, { opType: node.attributes.function!, inputs: grouped, output: `${name}.grouped` });
  return reshape(emitter, result, { shape: [0, 0, node.width], output });
}

function emitColumns({ emitter, node, inputs, name, output }: Emission): string {
  const columns = node.attributes.columns!;
  const ranges = toRanges(columns);
  const [range] = ranges;
  if (ranges.length > 1)
    return add(emitter, {
      opType: "Gather",
      inputs: [inputs[0]!, integers(emitter, `${name}.columns`, columns)],
      output,
      attributes: { axis: int(2) },
    });
  const bound = (label: string, value: number): string => integers(emitter, `${name}.${label}`, [value]);
  return add(emitter, {
    opType: "Slice",
    inputs: [inputs[0]!, bound("start", range!.start), bound("end", range!.start + range!.length), bound("axis", 2)],
    output,
  });
}

function emitExperts({ emitter, node, inputs, widths, name, output }: Emission): string {
  const { domain, opType, attributes } = node.attributes.operator!;
  const router = reshape(emitter, inputs[1]!, { shape: [-1, widths[1]!], output: `${name}.router` });
  const last = Math.max(...Object.keys(node.weights).map((key) => Number(key.slice("input".length))));
  const operands = Array.from({ length: last - 1 }, (_, i) => {
    const given = node.weights[`input${i + 2}`];
    if (given === undefined) return "";
    // Rows are float32 here, and the operator wants weights and scales of the rows' type; packed integers stay.
    const store = given.tensor.dtype === "uint8" ? weight : floatWeight;
    return store(emitter, `${name}.input${i + 2}`, given);
  });
  return add(emitter, {
    opType,
    domain,
    inputs: [inputs[0]!, router, ...operands],
    output,
    attributes: Object.fromEntries(attributes),
  });
}

function emitMean({ emitter, node, inputs, widths, name, output }: Emission): string {
  const groups = node.attributes.groups!;
  const axis = integers(emitter, `${name}.axis`, [-1]);
  if (groups === 1)
    return add(emitter, { opType: "ReduceMean", inputs: [inputs[0]!, axis], output, attributes: { keepdims: int(1) } });
  const x = reshape(emitter, inputs[0]!, { shape: [0, 0, groups, widths[0]! / groups], output: `${name}.groups` });
  return add(emitter, { opType: "ReduceMean", inputs: [x, axis], output, attributes: { keepdims: int(0) } });
}
