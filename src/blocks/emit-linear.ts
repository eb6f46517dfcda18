import { transposeWeight, type Weight } from "../canonical/weights.ts";
import { add, floatWeight, int, integers, weight, type Emission, type Emitter, type Operation } from "./emitter.ts";

export function emitEmbed({ emitter, node, inputs, name, output }: Emission): string {
  const { bits, blockSize, offset } = node.attributes;
  let index = inputs[0] ?? "positions";
  if (inputs.length === 0 && offset! > 0)
    index = add(emitter, {
      opType: "Add",
      inputs: ["positions", integers(emitter, `${name}.offset`, [offset!])],
      output: `${name}.index`,
    });
  const table = weight(emitter, `${name}.table`, node.weights["table"]!);
  if (bits === undefined)
    return asFloat(emitter, node.weights["table"]!, { opType: "Gather", inputs: [table, index], output });
  const scales = floatWeight(emitter, `${name}.scales`, node.weights["scales"]!);
  const zeroPoints =
    node.weights["zeroPoints"] === undefined ? [] : [weight(emitter, `${name}.zeroPoints`, node.weights["zeroPoints"])];
  return add(emitter, {
    opType: "GatherBlockQuantized",
    domain: "com.microsoft",
    inputs: [table, index, scales, ...zeroPoints],
    output,
    attributes: { bits: int(bits), block_size: int(blockSize!), gather_axis: int(0), quantize_axis: int(1) },
  });
}

export function emitLinear(emission: Emission): string {
  const { emitter, node, name } = emission;
  const { down, up } = node.weights;
  if (down !== undefined)
    emitter.factors.push({ weight: `${name}.weight`, down, up: up!, scale: node.attributes.adapterScale! });
  return emitProjection(emission);
}

function emitProjection(emission: Emission): string {
  const { bits, bnb4, dynamic } = emission.node.attributes;
  if (bnb4 !== undefined) return emitBnb4(emission, bnb4);
  if (bits !== undefined) return emitBlockwise(emission, bits);
  return dynamic === true ? emitDynamic(emission) : emitFloats(emission);
}

/** The operator takes both flat. */
function emitBnb4({ emitter, node, inputs, name, output }: Emission, kind: number): string {
  const flat = (given: Weight): Weight => ({ ...given, dims: [given.dims[0]! * given.dims[1]!] });
  const operands = ["weight", "scales"].map((label) => weight(emitter, `${name}.${label}`, flat(node.weights[label]!)));
  const { inputWidth, blockSize } = node.attributes;
  return add(emitter, {
    opType: "MatMulBnb4",
    domain: "com.microsoft",
    inputs: [inputs[0]!, ...operands],
    output,
    attributes: { K: int(inputWidth!), N: int(node.width), block_size: int(blockSize!), quant_type: int(kind) },
  });
}

function emitBlockwise({ emitter, node, inputs, name, output }: Emission, bits: number): string {
  const { blockSize, accuracyLevel, inputWidth } = node.attributes;
  const { zeroPoints, groupIndex } = node.weights;
  const blocks = Math.ceil(inputWidth! / blockSize!);
  const dims = [node.width, blocks, (blockSize! * bits) / 8];
  const operands = [
    inputs[0]!,
    weight(emitter, `${name}.weight`, { ...node.weights["weight"]!, dims }),
    floatWeight(emitter, `${name}.scales`, node.weights["scales"]!),
  ];
  if (zeroPoints !== undefined) operands.push(zeroPointsOf(emitter, `${name}.zeroPoints`, zeroPoints));
  else if (groupIndex !== undefined) operands.push("");
  if (groupIndex !== undefined) operands.push(weight(emitter, `${name}.groupIndex`, groupIndex));
  return add(emitter, {
    opType: "MatMulNBits",
    domain: "com.microsoft",
    inputs: operands,
    output,
    attributes: {
      K: int(inputWidth!),
      N: int(node.width),
      bits: int(bits),
      block_size: int(blockSize!),
      accuracy_level: int(accuracyLevel!),
    },
  });
}

function emitFloats({ emitter, node, inputs, name, output }: Emission): string {
  const given = node.weights["weight"]!;
  // Next to a MatMul, ONNX Runtime makes a DequantizeLinear one product that rounds rows to 8 bits; behind a Transpose it does not.
  const turned = given.dequantize === undefined ? emitter.tableByVocabulary : given.transpose;
  const matrix = floatWeight(emitter, `${name}.weight`, turned ? transposeWeight(given) : given);
  const operands = { inputs: [inputs[0]!, matrix], output };
  if (!turned) return add(emitter, { opType: "MatMul", ...operands });
  return add(emitter, {
    opType: "FusedMatMul",
    domain: "com.microsoft",
    ...operands,
    attributes: { transB: int(1) },
  });
}

/**
 * The integers and the one scale for all rows of a call as the file computes them. So the engine gives each sequence a
 * call of its own here, with its whole prompt in one: batch-invariant, and the tokens are the file's.
 */
function emitDynamic({ emitter, node, inputs, name, output }: Emission): string {
  const { dequantize, ...stored } = node.weights["weight"]!;
  const [integers_, scale, zero] = ["integers", "scale", "zero"].map((label) => `${name}.${label}`) as [
    string,
    string,
    string,
  ];
  emitter.nodes.push({
    name: integers_,
    opType: "DynamicQuantizeLinear",
    domain: "",
    inputs: [inputs[0]!],
    outputs: [integers_, scale, zero],
    attributes: new Map(),
  });
  const operands = [integers_, weight(emitter, `${name}.weight`, stored), zero];
  if (dequantize!.zeroPoints !== null)
    operands.push(weight(emitter, `${name}.weight.zeroPoints`, dequantize!.zeroPoints));
  const product = add(emitter, { opType: "MatMulInteger", inputs: operands, output: `${name}.product` });
  const numbers = add(emitter, {
    opType: "Cast",
    inputs: [product],
    output: `${name}.float`,
    attributes: { to: int(1) },
  });
  const scales = floatWeight(emitter, `${name}.weight.scales`, dequantize!.scales);
  const both = add(emitter, { opType: "Mul", inputs: [scale, scales], output: `${name}.scales` });
  return add(emitter, { opType: "Mul", inputs: [numbers, both], output });
}

/** Packed integers, or one float per block. */
function zeroPointsOf(emitter: Emitter, name: string, value: Weight): string {
  return value.tensor.dtype === "uint8" ? weight(emitter, name, value) : floatWeight(emitter, name, value);
}

function asFloat(emitter: Emitter, table: Weight, operation: Operation): string {
  if (table.tensor.dtype === "float32") return add(emitter, operation);
  const stored = add(emitter, { ...operation, output: `${operation.output}.stored` });
  if (table.dequantize !== undefined) {
    const { scales, zeroPoints } = table.dequantize;
    const operands = [stored, floatWeight(emitter, `${operation.output}.scales`, scales)];
    if (zeroPoints !== null) operands.push(weight(emitter, `${operation.output}.zeroPoints`, zeroPoints));
    return add(emitter, { opType: "DequantizeLinear", inputs: operands, output: operation.output });
  }
  return add(emitter, { opType: "Cast", inputs: [stored], output: operation.output, attributes: { to: int(1) } });
}
