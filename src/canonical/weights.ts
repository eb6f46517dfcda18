import type { ElementType, TensorInfo } from "../onnx/model.ts";
import { elementBits, tensorBytes } from "../onnx/tensor-data.ts";

/**
 * A weight in canonical form, as a recipe over the bytes where they lie: view the tensor as a matrix, take some rows
 * or columns, transpose. Nothing is read until the block is stored.
 */
export interface Weight {
  tensor: TensorInfo;
  /** The tensor seen as [rows, columns]; columns is the length of one contiguous run of elements. */
  rows: number;
  columns: number;
  take: { axis: "rows" | "columns"; ranges: Range[] } | null;
  transpose: boolean;
  /** Dims of the result. */
  dims: number[];
  /** The stored integers mean (integer − zero point) × scale; the graph says so with a DequantizeLinear. */
  dequantize?: Dequantization;
}

/** ONNX DequantizeLinear: one scale, one per index of `axis`, or one per `blockSize` elements along `axis`. */
export interface Dequantization {
  scales: Weight;
  zeroPoints: Weight | null;
  /** Non-negative. */
  axis: number;
  blockSize: number;
}

export interface Range {
  start: number;
  length: number;
}

/** The whole tensor as it lies; the last axis is contiguous. */
export function wholeWeight(tensor: TensorInfo): Weight {
  const columns = tensor.dims.at(-1) ?? 1;
  const rows = tensor.dims.slice(0, -1).reduce((product, dim) => product * dim, 1);
  return { tensor, rows, columns, take: null, transpose: false, dims: tensor.dims };
}

/** Entry `index` of the first axis, as a tensor of its own where it lies; only of a weight that is whole. */
export function sliceOfWeight({ tensor, take, transpose, dims, dequantize }: Weight, index: number): Weight {
  const rest = dims.slice(1);
  const length = tensorBytes(tensor.dtype, rest);
  if (take !== null || transpose || dequantize !== undefined || (elementBits(tensor.dtype) * count(rest)) % 8 !== 0)
    throw new Error("only a whole weight can be sliced");
  const start = index * length;
  const { data } = tensor;
  const part: TensorInfo = {
    name: `${tensor.name}[${index}]`,
    dtype: tensor.dtype,
    dims: rest,
    data:
      data.kind === "file"
        ? { ...data, offset: data.offset + start, length }
        : { kind: "bytes", bytes: data.bytes.subarray(start, start + length) },
  };
  return wholeWeight(part);
}

/** The same bytes under other dims, e.g. [N, K/32, 16] seen as [N, K/2]. */
export function reshapeWeight(weight: Weight, dims: number[]): Weight {
  return { ...weight, dims };
}

/** A [K, N] weight as [N, K]. */
export function transposeWeight(weight: Weight): Weight {
  const [first, second] = weight.dims as [number, number];
  const transposed = { ...matrixView(weight), transpose: !weight.transpose, dims: [second, first] };
  const { dequantize } = weight;
  if (dequantize === undefined || count(dequantize.scales.dims) === 1) return transposed;
  if (dequantize.blockSize !== 0) throw new Error("a blockwise quantised weight cannot be transposed");
  return { ...transposed, dequantize: { ...dequantize, axis: 1 - dequantize.axis } };
}

/**
 * Keeps some entries of the first or the last axis of the result, in the order given. Transposition swaps which axis
 * of the bytes that is.
 */
export function takeFromWeight(weight: Weight, axis: "first" | "last", indices: ArrayLike<number>): Weight {
  const view = axis === "first" && weight.dims.length !== 2 ? firstAxisView(weight) : matrixView(weight);
  const length = indices.length;
  const single = weight.dims.length === 1;
  const byteAxis = single ? "columns" : (axis === "first") !== view.transpose ? "rows" : "columns";
  if (view.take !== null && view.take.axis !== byteAxis)
    throw new Error("a weight cannot be taken from along both axes");
  const already = view.take === null ? null : expandRanges(view.take.ranges);
  const ranges = toRanges(Array.from(indices, (index) => (already === null ? index : already[index]!)));
  const dims = [...weight.dims];
  dims[axis === "first" ? 0 : dims.length - 1] = length;
  const whole = ranges.length === 1 && ranges[0]!.start === 0 && ranges[0]!.length === axisLength(view, byteAxis);
  const taken: Weight = { ...view, take: whole ? null : { axis: byteAxis, ranges }, dims };
  if (weight.dequantize === undefined) return taken;
  return { ...taken, dequantize: takeScales(weight.dequantize, { axis, rank: weight.dims.length, indices }) };
}

/** Scales go with the elements they scale. */
function takeScales(
  dequantize: Dequantization,
  { axis, rank, indices }: { axis: "first" | "last"; rank: number; indices: ArrayLike<number> },
): Dequantization {
  const taken = axis === "first" ? 0 : rank - 1;
  const along = (scales: Weight): Weight => {
    if (count(scales.dims) === 1) return scales;
    if (scales.dims.length === rank) {
      if (taken === dequantize.axis)
        throw new Error("a blockwise quantised weight cannot be taken from along its blocks");
      return takeFromWeight(scales, axis, indices);
    }
    return taken === dequantize.axis ? takeFromWeight(scales, "last", indices) : scales;
  };
  return {
    ...dequantize,
    scales: along(dequantize.scales),
    zeroPoints: dequantize.zeroPoints === null ? null : along(dequantize.zeroPoints),
  };
}

function count(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

function axisLength(weight: Weight, axis: "rows" | "columns"): number {
  return axis === "rows" ? weight.rows : weight.columns;
}

/** [rows, columns] = the two axes of the result before transposition. */
function matrixView(weight: Weight): Weight {
  if (weight.dims.length === 1 && weight.take === null && !weight.transpose)
    return { ...weight, rows: 1, columns: weight.dims[0]! };
  if (weight.dims.length !== 2 || weight.take !== null || weight.transpose) return weight;
  return { ...weight, rows: weight.dims[0]!, columns: weight.dims[1]! };
}

function firstAxisView(weight: Weight): Weight {
  if (weight.take !== null || weight.transpose || weight.dims.length < 2) return weight;
  const rows = weight.dims[0]!;
  return { ...weight, rows, columns: weight.dims.slice(1).reduce((product, dim) => product * dim, 1) };
}

export function toRanges(indices: readonly number[]): Range[] {
  const ranges: Range[] = [];
  for (const index of indices) {
    const last = ranges.at(-1);
    if (last !== undefined && last.start + last.length === index) last.length++;
    else ranges.push({ start: index, length: 1 });
  }
  return ranges;
}

export function expandRanges(ranges: readonly Range[]): number[] {
  return ranges.flatMap(({ start, length }) => Array.from({ length }, (_, offset) => start + offset));
}

/** A small weight computed while lifting (a folded constant), held as bytes. */
export function computedWeight(
  values: ArrayLike<number>,
  dims: number[],
  dtype: ElementType & ("float32" | "int64"),
): Weight {
  const bytes =
    dtype === "float32"
      ? new Uint8Array(Float32Array.from(values).buffer)
      : new Uint8Array(BigInt64Array.from(Array.from(values, (value) => BigInt(value))).buffer);
  return wholeWeight({ name: "", dtype, dims, data: { kind: "bytes", bytes } });
}

/** What makes two recipes the same, as text: for comparing programs lifted at different probe points. */
export function describeWeight(weight: Weight): string {
  const { tensor, take, transpose, dims, dequantize } = weight;
  const origin =
    tensor.data.kind === "file"
      ? `${tensor.data.path}@${tensor.data.offset}+${tensor.data.length}`
      : Buffer.from(tensor.data.bytes).toString("base64");
  const scales =
    dequantize === undefined
      ? []
      : [
          dequantize.axis,
          dequantize.blockSize,
          ...[dequantize.scales, dequantize.zeroPoints].map((each) => (each === null ? null : describeWeight(each))),
        ];
  return JSON.stringify([origin, tensor.dtype, tensor.dims, take, transpose, dims, ...scales]);
}
