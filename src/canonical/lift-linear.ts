import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, inTokenOrder, joinSources, moveForms, rowsOf, scaleForm, shapeOnly } from "./form.ts";
import { unary } from "./lift-rows.ts";
import { formAt, knownAt, optionalValue, valueOf, weightAt, type Lift, type Lifter } from "./lifter.ts";
import { concatenation, floatAttribute, gatherMovement, intAttribute } from "./movement.ts";
import { count, integers, lazyKnown, Unliftable, type Form, type Known } from "./value.ts";
import { computedWeight, reshapeWeight, sliceOfWeight, transposeWeight, type Weight } from "./weights.ts";

/** x·W for float weights: MatMul, Gemm, com.microsoft.FusedMatMul. */
export const liftMatMul: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const given = weightAt(lifter, node, 1);
  if (given.dims.includes(0))
    return [
      lazyKnown(
        [...x.dims.slice(0, -1), given.dims.at(-1)!],
        "float",
        () => new Float64Array(count(x.dims.slice(0, -1)) * given.dims.at(-1)!),
      ),
    ];
  if (given.dims.length !== 2)
    throw new Unliftable(node.name, `${node.opType} with a weight of ${given.dims.length} dims`);
  const transposed = intAttribute(node, "transB", 0) === 1;
  const alpha = floatAttribute(node, "alpha", 1);
  const weight = transposed ? transposeWeight(given) : given;
  if (["transA", "transBatchA", "transBatchB"].some((name) => intAttribute(node, name, 0) !== 0))
    throw new Unliftable(node.name, `${node.opType} of rows that it turns`);
  const out = linear(lifter, node, { x, weights: { weight }, width: weight.dims[1]! });
  const scaled = alpha === 1 ? out : scaleForm(out, alpha);
  const bias = node.opType === "Gemm" ? optionalValue(lifter, node, 2) : null;
  if (bias === null) return [scaled];
  if (floatAttribute(node, "beta", 1) !== 1 || alpha !== 1)
    throw new Unliftable(node.name, "Gemm with a bias and alpha or beta other than 1");
  return [addBias(lifter, node, { x: scaled, bias: knownAt(lifter, node, 2) })];
};

/** com.microsoft.FusedGemm: a Gemm and the activation behind it. */
export const liftFusedGemm: Lift = (lifter, node) => {
  const activation = node.attributes.get("activation");
  const name = activation?.kind === "string" ? activation.value : "";
  if (!["Relu", "Tanh", "Sigmoid", "Softplus"].includes(name))
    throw new Unliftable(node.name, `FusedGemm with the activation ${name}`);
  const [product] = liftMatMul(lifter, { ...node, opType: "Gemm" }) as [Form];
  return [unary(lifter, node, product, name)];
};

/** x·W for several weights at once: [parts, tokens, in] times [parts, in, out], each part of the rows by its own. */
export function liftProducts(lifter: Lifter, node: GraphNode, x: Form, given: Known): Form {
  const [parts, , width] = given.dims as [number, number, number];
  if (given.weight === null || x.dims.length !== 3 || x.dims[0] !== parts)
    throw new Unliftable(node.name, `${node.opType} with a weight of ${given.dims.length} dims`);
  const { weight } = given;
  if (lifter.probe.shapesOnly) return shapeOnly([...x.dims.slice(0, -1), width]);
  const products = Array.from({ length: parts }, (_, i) => {
    const part = moveForms([x], gatherMovement(x.dims, [1], [i], 0));
    return linear(lifter, node, { x: part, weights: { weight: sliceOfWeight(weight, i) }, width });
  });
  return moveForms(
    joinSources(lifter.program, products),
    concatenation(
      0,
      products.map(({ dims }) => dims),
    ),
  );
}

/** com.microsoft.MatMulNBits: blockwise quantised weight [N, blocks, bytes], scales, zero points, bias. */
export const liftMatMulNBits: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const inputWidth = intAttribute(node, "K", 0);
  const width = intAttribute(node, "N", 0);
  const bits = intAttribute(node, "bits", 4);
  const blockSize = intAttribute(node, "block_size", 32);
  const blocks = Math.ceil(inputWidth / blockSize);
  if (intAttribute(node, "weight_prepacked", 0) !== 0)
    throw new Unliftable(
      node.name,
      "MatMulNBits with weights packed for one kind of GPU, which other devices read as other numbers",
      { broken: true },
    );
  const packed = (input: number, columns: number): Weight => {
    const weight = weightAt(lifter, node, input);
    if (count(weight.dims) !== width * columns)
      throw new Unliftable(
        node.name,
        `MatMulNBits input ${input} has [${weight.dims.join(", ")}], not ${width}×${columns}`,
      );
    return reshapeWeight(weight, [width, columns]);
  };
  const weights: Record<string, Weight> = {
    weight: packed(1, (blocks * blockSize * bits) / 8),
    scales: packed(2, blocks),
  };
  const zeroPoints = optionalValue(lifter, node, 3);
  if (zeroPoints !== null) {
    const floating = weightAt(lifter, node, 3).tensor.dtype !== "uint8";
    weights["zeroPoints"] = packed(3, floating ? blocks : Math.ceil((blocks * bits) / 8));
  }
  const grouping = groupingOf(lifter, node, { inputWidth, blockSize });
  if (grouping !== null && grouping !== "in order") weights["groupIndex"] = grouping;
  // With any of these ONNX Runtime multiplies float numbers, whatever level is asked for.
  const inFloats =
    grouping !== null ||
    (zeroPoints !== null && weights["zeroPoints"]!.tensor.dtype !== "uint8") ||
    lifter.inputs.has(weights["weight"]!.tensor.name);
  const accuracyLevel = inFloats ? 0 : intAttribute(node, "accuracy_level", 0);
  const attributes = { bits, blockSize, accuracyLevel, inputWidth };
  const out = linear(lifter, node, { x, weights, width, attributes });
  const bias = optionalValue(lifter, node, 5);
  return [bias === null ? out : addBias(lifter, node, { x: out, bias: knownAt(lifter, node, 5) })];
};

/** Which block's scale each column of the rows has (GPTQ's g_idx); null: not given. */
function groupingOf(
  lifter: Lifter,
  node: GraphNode,
  { inputWidth, blockSize }: { inputWidth: number; blockSize: number },
): Weight | "in order" | null {
  if (optionalValue(lifter, node, 4) === null) return null;
  const blocks = knownAt(lifter, node, 4).read();
  if (blocks.length !== inputWidth)
    throw new Unliftable(node.name, `a group index of ${blocks.length} for rows of ${inputWidth}`);
  const inOrder = blocks.every((block, column) => block === Math.floor(column / blockSize));
  return inOrder ? "in order" : weightAt(lifter, node, 4);
}

/** com.microsoft.MatMulBnb4: NF4 or FP4 weight [N, K/2], one scale per block (bitsandbytes). */
export const liftMatMulBnb4: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const [inputWidth, width] = [intAttribute(node, "K", 0), intAttribute(node, "N", 0)];
  const blockSize = intAttribute(node, "block_size", 64);
  if (intAttribute(node, "training_mode", 0) !== 0 || intAttribute(node, "transB", 1) !== 1)
    throw new Unliftable(node.name, "MatMulBnb4 of another layout");
  if (inputWidth % blockSize !== 0)
    throw new Unliftable(node.name, "MatMulBnb4 with blocks that run over the end of a row");
  const weights = {
    weight: reshapeWeight(weightAt(lifter, node, 1), [width, inputWidth / 2]),
    scales: reshapeWeight(weightAt(lifter, node, 2), [width, inputWidth / blockSize]),
  };
  return [
    linear(lifter, node, {
      x,
      weights,
      width,
      attributes: { bits: 4, blockSize, inputWidth, bnb4: intAttribute(node, "quant_type", 1) },
    }),
  ];
};

/** Rows of a table by token id: the embedding. Rows by position stay numbers until something needs them as rows. */
export const liftGather: Lift = (lifter, node) => {
  const table = weightAt(lifter, node, 0);
  const ids = formAt(lifter, node, 1);
  if (intAttribute(node, "axis", 0) !== 0 || table.dims.length !== 2)
    throw new Unliftable(node.name, "Gather by token of other than the rows of a matrix");
  return [embed(lifter, node, { ids, weights: { table }, width: table.dims[1]! })];
};

/** com.microsoft.GatherBlockQuantized: an embedding table in blocks of 4 or 8 bits. */
export const liftGatherBlockQuantized: Lift = (lifter, node) => {
  const ids = valueOf(lifter, node, 1);
  const bits = intAttribute(node, "bits", 4);
  const blockSize = intAttribute(node, "block_size", 128);
  const given = weightAt(lifter, node, 0);
  const scales = weightAt(lifter, node, 2);
  const packedPerByte = given.tensor.dtype === "uint8" ? 8 / bits : 1;
  if (intAttribute(node, "gather_axis", 0) !== 0 || given.dims.length !== 2) {
    throw new Unliftable(
      node.name,
      `GatherBlockQuantized of a ${given.tensor.dtype} table with ${given.dims.length} dims`,
    );
  }
  const width = given.dims[1]! * packedPerByte;
  const quantizeAxis = intAttribute(node, "quantize_axis", 1);
  if (quantizeAxis !== 1 && quantizeAxis !== -1)
    throw new Unliftable(node.name, "GatherBlockQuantized along the vocabulary");
  const weights: Record<string, Weight> = { table: given, scales };
  if (optionalValue(lifter, node, 3) !== null) weights["zeroPoints"] = weightAt(lifter, node, 3);
  const attributes = { bits, blockSize };
  if (ids.kind === "form") return [embed(lifter, node, { ids, weights, width, attributes })];
  const offset = ids.kind === "known" ? firstPosition(lifter, ids) : null;
  if (offset === null) throw new Unliftable(node.name, "GatherBlockQuantized by other than the token or its position");
  return [embedPositions(lifter, node, { dims: [...ids.dims, width], offset, weights, width, attributes })];
};

interface RowsByWeight {
  weights: Record<string, Weight>;
  width: number;
  attributes?: {
    bits?: number;
    blockSize?: number;
    accuracyLevel?: number;
    inputWidth?: number;
    dynamic?: boolean;
    bnb4?: number;
  };
}

export function linear(
  lifter: Lifter,
  node: GraphNode,
  { x, weights, width, attributes }: RowsByWeight & { x: Form },
): Form {
  const dims = [...x.dims.slice(0, -1), width];
  const inputWidth = attributes?.inputWidth ?? weights["weight"]!.dims[0]!;
  if (x.dims.at(-1) !== inputWidth)
    throw new Unliftable(node.name, `${node.opType} of rows of ${x.dims.at(-1)} with a weight for ${inputWidth}`);
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  const view = rowsOf(lifter.program, x, node);
  if (view.width !== inputWidth) throw new Unliftable(node.name, `${node.opType} works on part of a row`);
  const id = lifter.program.add({ op: "linear", inputs: [view.node], width, attributes: attributes ?? {}, weights });
  return formOfRows(lifter.program, id, view.tokens, dims);
}

function embed(
  lifter: Lifter,
  node: GraphNode,
  { ids, weights, width, attributes }: RowsByWeight & { ids: Form },
): Form {
  const dims = [...ids.dims, width];
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  const view = rowsOf(lifter.program, ids, node);
  const id = lifter.program.add({ op: "embed", inputs: [view.node], width, attributes: attributes ?? {}, weights });
  return formOfRows(lifter.program, id, view.tokens, dims);
}

function addBias(lifter: Lifter, node: GraphNode, { x, bias }: { x: Form; bias: Known }): Form {
  const width = x.dims.at(-1)!;
  if (count(bias.dims) !== width) throw new Unliftable(node.name, `a bias of ${count(bias.dims)} for rows of ${width}`);
  return vectorOperation(lifter, node, { x, operand: bias, operation: "Add" });
}

/** x ∘ vector along the last axis; `operand` is a weight or a small constant. */
export function vectorOperation(
  lifter: Lifter,
  node: GraphNode,
  { x, operand, operation }: { x: Form; operand: Known; operation: string },
): Form {
  if (lifter.probe.shapesOnly) return shapeOnly(x.dims);
  return inTokenOrder(lifter.program, { forms: [x], sequence: lifter.probe.sequence }, ([ordered]) =>
    vectorRows(lifter, node, { x: ordered!, operand, operation }),
  );
}

function vectorRows(
  lifter: Lifter,
  node: GraphNode,
  { x, operand, operation }: { x: Form; operand: Known; operation: string },
): Form {
  const view = rowsOf(lifter.program, x, node);
  const length = count(operand.dims);
  const weight =
    operand.weight === null
      ? computedWeight(operand.read(), [length], "float32")
      : reshapeWeight(operand.weight, [length]);
  const id = lifter.program.add({
    op: "vector",
    inputs: [view.node],
    width: view.width,
    attributes: { function: operation },
    weights: { operand: weight },
  });
  return formOfRows(lifter.program, id, view.tokens, x.dims);
}

/** Known rows picked from a weight table by position, as a row node: learned position embedding. */
export function positionRows(lifter: Lifter, node: GraphNode, value: Known): Form {
  const { weight, offset } = value.table!;
  const weights = { table: weight };
  return embedPositions(lifter, node, { dims: value.dims, offset, weights, width: weight.dims[1]! });
}

function embedPositions(
  lifter: Lifter,
  node: GraphNode,
  { dims, offset, weights, width, attributes }: RowsByWeight & { dims: number[]; offset: number },
): Form {
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  const id = lifter.program.add({ op: "embed", inputs: [], width, attributes: { ...attributes, offset }, weights });
  const tokens = Int32Array.from({ length: lifter.probe.sequence }, (_, token) => token);
  if (count(dims) !== tokens.length * width)
    throw new Unliftable(node.name, "position rows for other than the new tokens");
  return formOfRows(lifter.program, id, tokens, dims);
}

/** Notes on a gathered table that its rows were picked by consecutive positions from `past` on. */
export function tableByPosition(lifter: Lifter, data: Known, indices: Known): Known["table"] {
  if (data.weight === null || data.weight.dims.length !== 2) return null;
  const offset = firstPosition(lifter, indices);
  return offset === null ? null : { weight: data.weight, offset };
}

/** By how much consecutive indices are more than the positions of the new tokens; null: they are not consecutive. */
function firstPosition({ probe: { past, sequence } }: Lifter, indices: Known): number | null {
  if (count(indices.dims) !== sequence) return null;
  const at = integers(indices);
  const offset = at[0]! - past;
  return at.every((index, i) => index === past + i + offset) ? offset : null;
}
