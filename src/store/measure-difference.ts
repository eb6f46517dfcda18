import type { TensorEntry } from "../blocks/block.ts";
import type { Projection } from "../blocks/projections.ts";
import { isFloat, toFloats } from "../fingerprint/element-stream.ts";
import { findLowRank, type LowRankError } from "../fingerprint/low-rank.ts";
import type { Matrix, MatrixProducts } from "../fingerprint/matrix-products.ts";
import { WeightDistance } from "../fingerprint/weight-distance.ts";
import type { BlobStore } from "./blob-store.ts";
import type { DistinctBlock } from "./distinct-blocks.ts";
import { compareTensors } from "./compare-blocks.ts";
import { residualBytes } from "./residual.ts";
import { blockTensors } from "./sketch-blocks.ts";
import type { Zstd } from "./zstd.ts";

/** How a tensor of a block differs from its base's. */
export interface TensorDifference {
  name: string;
  tensor: TensorEntry;
  weight_cosine: number;
  relative_delta: number;
  /** Place in `blockTensors`. */
  place: number;
  /** Factors can be added to what it gives. A table that rows are picked from may have a rank, too. */
  takesFactors: boolean;
  /** Factors in float32 that give the difference; null: it has no low rank, or none was looked for. */
  low_rank: MeasuredRank | null;
  /** Of the lossless difference, really encoded; null: not asked for. */
  residual_bytes: number | null;
}

export interface MeasuredRank {
  rank: number;
  bytes: number;
  cliff: number;
  error: LowRankError;
  /** The difference is left · right. */
  left: Matrix;
  right: Matrix;
}

/** Base and factors give what the tensor gives, to rounding. */
export function isFactored({ takesFactors, low_rank }: TensorDifference): boolean {
  return takesFactors && low_rank?.error.is_rounding === true;
}

export interface BlockDifference {
  weight_cosine: number;
  relative_delta: number;
  /** Those that are not the very same bytes. */
  tensors: TensorDifference[];
}

export interface Instruments {
  /** null: do not look for low ranks. */
  products: MatrixProducts | null;
  /** Which weights factors could be added to, in the order of `blockTensors`. */
  projections: readonly (Projection | null)[];
  /** Look for the ranks of other matrices too, to say so. */
  tables?: boolean;
  /** null: do not encode residuals. */
  zstd: Zstd | null;
  /** Of a tensor that is looked into; default `MOST_TENSOR_BYTES`. */
  mostBytes?: number | undefined;
}

/** Larger ones (an embedding of a large model) are compared in a stream: as float32 they would take several GiB at once. */
export const MOST_TENSOR_BYTES = 2 ** 30;

/** Measures a candidate tensor by tensor; one pair of tensors is in memory at a time. Changes nothing. */
export async function measureDifference(
  blobs: BlobStore,
  { base, block }: { base: Pick<DistinctBlock, "document">; block: Pick<DistinctBlock, "document"> },
  {
    products,
    projections,
    tables = false,
    zstd,
    mostBytes = MOST_TENSOR_BYTES,
    signal,
  }: Instruments & { signal?: AbortSignal },
): Promise<BlockDifference> {
  const all = new WeightDistance();
  const tensors: TensorDifference[] = [];
  const baseTensors = blockTensors(base.document);
  for (const [at, tensor] of blockTensors(block.document).entries()) {
    signal?.throwIfAborted();
    const baseTensor = baseTensors[at]!;
    if (tensor.bytes > mostBytes) {
      const distance = await compareTensors(blobs, { a: baseTensor, b: tensor }, signal);
      all.addAll(distance);
      if (baseTensor.digest !== tensor.digest) tensors.push({ ...describe(tensor, at, distance), ...UNMEASURED });
      continue;
    }
    const bytes = await blobs.read(tensor.digest, tensor.bytes);
    const isSame = baseTensor.digest === tensor.digest;
    const baseBytes = isSame ? bytes : await blobs.read(baseTensor.digest, baseTensor.bytes);
    const pair = { base: toFloats(baseBytes, tensor.dtype), tuned: toFloats(bytes, tensor.dtype) };
    const distance = new WeightDistance();
    distance.add(pair.base, pair.tuned);
    all.addAll(distance);
    if (isSame) continue;
    tensors.push({
      ...describe(tensor, at, distance),
      takesFactors: Boolean(projections[at]),
      low_rank:
        products === null || !(tables || projections[at])
          ? null
          : await lowRankOf(tensor, pair, { products, ...(signal ? { signal } : {}) }),
      residual_bytes:
        zstd === null ? null : await residualBytes({ base: baseBytes, exact: bytes, dtype: tensor.dtype }, zstd),
    });
  }
  return { weight_cosine: all.cosine, relative_delta: all.relativeDelta, tensors };
}

const UNMEASURED = { takesFactors: false, low_rank: null, residual_bytes: null };

function describe(tensor: TensorEntry, place: number, { cosine, relativeDelta }: WeightDistance) {
  return { name: tensor.name, tensor, place, weight_cosine: cosine, relative_delta: relativeDelta };
}

async function lowRankOf(
  { dtype, dims }: TensorEntry,
  { base, tuned }: { base: Float32Array; tuned: Float32Array },
  { products, signal }: { products: MatrixProducts; signal?: AbortSignal },
): Promise<TensorDifference["low_rank"]> {
  const [rows = 0, columns = 0] = dims;
  if (!isFloat(dtype) || dims.length !== 2) return null;
  const matrix = (values: Float32Array) => ({ rows, columns, values });
  const pair = { base: matrix(base), tuned: matrix(tuned), dtype };
  const found = await findLowRank(pair, products, signal ? { signal } : {});
  if (found === null) return null;
  return { ...found, bytes: found.left.values.byteLength + found.right.values.byteLength };
}
