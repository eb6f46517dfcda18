import type { ElementType, GraphNode, OnnxModel, TensorInfo } from "../../onnx/model.ts";
import { ownModel } from "../../onnx/own-model.ts";

/** What decides which kernel multiplies rows: all but the numbers. */
export type Product = FloatProduct | BlockProduct;

/** MatMul, or FusedMatMul with the matrix turned, in float32. */
export interface FloatProduct {
  kind: "floats";
  turned: boolean;
  /** null: those of a matrix that is computed when the session is made. */
  dims: readonly number[] | null;
}

/** com.microsoft.MatMulNBits. */
export interface BlockProduct {
  kind: "blocks";
  inner: number;
  outer: number;
  bits: number;
  blockSize: number;
  accuracyLevel: number;
  zeroPoints: "uint8" | "float32" | "none";
  groups: boolean;
}

/** A product of the same kind, its sides cut where kernels only repeat themselves: large ones would take long to make. */
export function reduced(product: Product): Product {
  if (product.kind === "blocks")
    return { ...product, inner: cut(product.inner, MOST_INNER), outer: cut(product.outer, MOST_OUTER) };
  const dims = product.dims ?? [MOST_INNER + 64, MOST_OUTER + 64];
  const [inner, outer] = (product.turned ? dims.slice(-2).toReversed() : dims.slice(-2)) as [number, number];
  const sides = [cut(inner, MOST_INNER), cut(outer, MOST_OUTER)];
  const batch = dims.slice(0, -2).map((dim) => Math.min(dim, 2));
  return { ...product, dims: [...batch, ...(product.turned ? sides.toReversed() : sides)] };
}

/** The kernels' own pieces are at most 256 along the sum and 128 across; what is left over beyond a piece is kept. */
const MOST_INNER = 1024;
const MOST_OUTER = 128;

function cut(side: number, most: number): number {
  return side <= most ? side : most + (side % (most / 2));
}

/** Rows `x` [1, rows, inner] to `y`, by a matrix of noise. */
export function productModel(product: Product): { model: OnnxModel; inner: number } {
  const { node, initializers, inner } = product.kind === "floats" ? floatNode(product) : blockNode(product);
  const model = ownModel({
    name: "product",
    nodes: [node],
    initializers: new Map(initializers.map((each) => [each.name, each])),
    inputs: [{ name: "x", dtype: "float32", dims: [1, "rows", inner] }],
    outputs: [{ name: "y", dtype: "float32", dims: null }],
  });
  return { model, inner };
}

interface ProductParts {
  node: GraphNode;
  initializers: TensorInfo[];
  inner: number;
}

function floatNode({ turned, dims }: FloatProduct): ProductParts {
  const matrix = floats("matrix", dims!, (noise) => noise - 0.5);
  const node = turned
    ? nodeOf("com.microsoft", "FusedMatMul", ["x", "matrix"], { transB: 1 })
    : nodeOf("", "MatMul", ["x", "matrix"], {});
  return { node, initializers: [matrix], inner: dims!.at(turned ? -1 : -2)! };
}

function blockNode(product: BlockProduct): ProductParts {
  const { inner, outer, bits, blockSize, accuracyLevel, zeroPoints, groups } = product;
  const blocks = Math.ceil(inner / blockSize);
  const initializers = [
    bytes("matrix", [outer, blocks, (blockSize * bits) / 8]),
    floats("scales", [outer, blocks], (noise) => 0.01 + noise / 100),
  ];
  if (zeroPoints === "uint8") initializers.push(bytes("zeros", [outer, Math.ceil((blocks * bits) / 8)]));
  if (zeroPoints === "float32") initializers.push(floats("zeros", [outer, blocks], (noise) => noise * 2 ** bits));
  if (groups) initializers.push(groupIndex(inner, blocks));
  const inputs = ["x", "matrix", "scales", zeroPoints === "none" ? "" : "zeros", groups ? "groups" : ""];
  while (inputs.at(-1) === "") inputs.pop();
  const attributes = { K: inner, N: outer, bits, block_size: blockSize, accuracy_level: accuracyLevel };
  return { node: nodeOf("com.microsoft", "MatMulNBits", inputs, attributes), initializers, inner };
}

function nodeOf(domain: string, opType: string, inputs: string[], attributes: Record<string, number>): GraphNode {
  const entries = Object.entries(attributes).map(([name, value]) => [name, { kind: "int", value }] as const);
  return { name: "product", domain, opType, inputs, outputs: ["y"], attributes: new Map(entries) };
}

function floats(name: string, dims: readonly number[], value: (noise: number) => number): TensorInfo {
  return tensor(name, "float32", dims, new Uint8Array(noiseRow(countOf(dims)).map(value).buffer));
}

function bytes(name: string, dims: readonly number[]): TensorInfo {
  return tensor(
    name,
    "uint8",
    dims,
    Uint8Array.from(noiseRow(countOf(dims)), (noise) => noise * 256),
  );
}

/** Columns of the first block belong to the last group, and so on: no order that a kernel could take for granted. */
function groupIndex(inner: number, blocks: number): TensorInfo {
  const groups = Int32Array.from({ length: inner }, (_, column) => (inner - 1 - column) % blocks);
  return tensor("groups", "int32", [inner], new Uint8Array(groups.buffer));
}

function tensor(name: string, dtype: ElementType, dims: readonly number[], data: Uint8Array): TensorInfo {
  return { name, dtype, dims: [...dims], data: { kind: "bytes", bytes: data } };
}

function countOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** From 0 to 1, the same each time: two engines must come to the same answer. */
export function noiseRow(length: number): Float32Array<ArrayBuffer> {
  let state = 1;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  });
}
