import type { RowNode } from "../canonical/rows.ts";
import { transposeWeight, type Weight } from "../canonical/weights.ts";
import type { Attribute } from "../onnx/model.ts";
import {
  add,
  floatWeight,
  int,
  integers,
  scalar,
  weight,
  type Emission,
  type Emitter,
  type Operation,
} from "./emitter.ts";

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

export function emitLinear({ emitter, node, inputs, name, output }: Emission): string {
  const { bits, blockSize, accuracyLevel, inputWidth, bnb4 } = node.attributes;
  const given = node.weights["weight"]!;
  if (bnb4 !== undefined) {
    // The operator takes both flat.
    const flat = (weight_: Weight): Weight => ({ ...weight_, dims: [weight_.dims[0]! * weight_.dims[1]!] });
    const operands = [
      inputs[0]!,
      weight(emitter, `${name}.weight`, flat(given)),
      weight(emitter, `${name}.scales`, flat(node.weights["scales"]!)),
    ];
    return add(emitter, {
      opType: "MatMulBnb4",
      domain: "com.microsoft",
      inputs: operands,
      output,
      attributes: { K: int(inputWidth!), N: int(node.width), block_size: int(blockSize!), quant_type: int(bnb4) },
    });
  }
  if (bits !== undefined) {
    const blocks = Math.ceil(inputWidth! / blockSize!);
    const packed = weight(emitter, `${name}.weight`, { ...given, dims: [node.width, blocks, (blockSize! * bits) / 8] });
    const scales = floatWeight(emitter, `${name}.scales`, node.weights["scales"]!);
    const zeroPoints =
      node.weights["zeroPoints"] === undefined
        ? []
        : [zeroPointsOf(emitter, `${name}.zeroPoints`, node.weights["zeroPoints"])];
    const attributes = {
      K: int(inputWidth!),
      N: int(node.width),
      bits: int(bits),
      block_size: int(blockSize!),
      accuracy_level: int(accuracyLevel!),
    };
    return add(emitter, {
      opType: "MatMulNBits",
      domain: "com.microsoft",
      inputs: [inputs[0]!, packed, scales, ...zeroPoints],
      output,
      attributes,
    });
  }
  if (node.attributes.dynamic === true) return emitDynamic(emitter, { node, x: inputs[0]!, name, output });
  if (emitter.tableByVocabulary && given.dequantize === undefined) {
    const table = floatWeight(emitter, `${name}.weight`, transposeWeight(given));
    return add(emitter, {
      opType: "FusedMatMul",
      domain: "com.microsoft",
      inputs: [inputs[0]!, table],
      output,
      attributes: { transB: int(1) },
    });
  }
  return add(emitter, {
    opType: "MatMul",
    inputs: [inputs[0]!, floatWeight(emitter, `${name}.weight`, given)],
    output,
  });
}

/**
 * DynamicQuantizeLinear (uint8) row by row: its scale over all rows of a call would make a token's result depend on
 * its neighbours. The integers are exact in float32, so the product is MatMulInteger's up to one rounding.
 */
function emitDynamic(
  emitter: Emitter,
  { node, x, name, output }: { node: RowNode; x: string; name: string; output: string },
): string {
  const step = (opType: string, inputs: string[], label: string, attributes: Record<string, Attribute> = {}): string =>
    add(emitter, { opType, inputs, output: `${name}.${label}`, attributes });
  const constant = (label: string, value: number): string => scalar(emitter, `${name}.${label}`, value);
  const [zero, one, most] = [constant("zero", 0), constant("one", 1), constant("most", 255)];
  const axis = integers(emitter, `${name}.axis`, [-1]);
  const high = step("Max", [step("ReduceMax", [x, axis], "max"), zero], "high");
  const low = step("Min", [step("ReduceMin", [x, axis], "min"), zero], "low");
  const width = step("Div", [step("Sub", [high, low], "span"), most], "width");
  const scale = step("Where", [step("Equal", [width, zero], "flat"), one, width], "scale");
  const offset = step(
    "Clip",
    [step("Round", [step("Neg", [step("Div", [low, scale], "lowest")], "negated")], "rounded"), zero, most],
    "offset",
  );
  const shifted = step("Add", [step("Round", [step("Div", [x, scale], "scaled")], "integers"), offset], "shifted");
  const centred = step("Sub", [step("Clip", [shifted, zero, most], "clipped"), offset], "centred");
  const product = step("MatMul", [centred, floatWeight(emitter, `${name}.weight`, node.weights["weight"]!)], "product");
  return add(emitter, { opType: "Mul", inputs: [product, scale], output });
}

/** Packed integers, or one float per block. */
function zeroPointsOf(emitter: Emitter, name: string, value: Weight): string {
  return value.tensor.dtype === "uint8" ? weight(emitter, name, value) : floatWeight(emitter, name, value);
}

function asFloat(emitter: Emitter, table: Weight, operation: Operation): string {
  if (table.tensor.dtype === "float32") return add(emitter, operation);
  const stored = add(emitter, { ...operation, output: `${operation.output}.stored` });
  return add(emitter, { opType: "Cast", inputs: [stored], output: operation.output, attributes: { to: int(1) } });
}
