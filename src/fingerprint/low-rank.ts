import type { ElementType } from "../onnx/model.ts";
import { floatToHalf, halfToFloat } from "../onnx/numbers.ts";
import type { Matrix, MatrixProducts } from "./matrix-products.ts";
import { randomBits } from "./seeded-random.ts";
import { type Columns, orthonormalise, singularTriples } from "./small-svd.ts";

/** A matrix as another plus left · right: what merging a LoRA leaves (arXiv 2106.09685), taken apart again. */
export interface LowRank {
  rank: number;
  /** [rows, rank]; carries the singular values. */
  left: Matrix;
  /** [rank, columns] */
  right: Matrix;
  /** σ of the rank / σ of the next. */
  cliff: number;
  error: LowRankError;
}

/** base + left · right against the exact weights. */
export interface LowRankError {
  max_abs: number;
  relative: number;
  /** Rounded as the weights were, every one comes out bit for bit. */
  bit_exact: boolean;
  /** No more than rounding both matrices explains: the factors are all of the difference. */
  is_rounding: boolean;
}

export interface LowRankPair {
  base: Matrix;
  tuned: Matrix;
  /** As stored: it says what the matrix takes. */
  dtype: ElementType;
}

/** Tried in turn: most adapters have a rank of 8 to 64, and each column costs time. */
const RANKS_TRIED = [16, 32, 64, 128, 256];
const OVERSAMPLING = 8;
const POWER_ITERATIONS = 1;

/** A rank is believed where the next singular value is this much smaller … */
const LEAST_CLIFF = 4;
/** … and what then remains of the difference is almost nothing, … */
const MOST_REMAINDER = 0.02;
/** … or no more than rounding of both matrices explains, and not most of the difference. */
const MOST_NOISE_SHARE = 0.5;
const NOISE_MARGIN = 1.5;
/** The factors themselves are float32: relative to the difference, their rounding. */
const FACTOR_ROUNDING = 1e-6;
/** What singular values from float32 products leave of the difference's norm is not known better than this. */
const REMAINDER_ACCURACY = 2e-3;

const FLOAT_BYTES = 4;
const SEED = 3;

/**
 * The low rank of `tuned − base`, or null where it has none whose factors are smaller than the matrix. By
 * randomised subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4). Deterministic up to ONNX Runtime's sums.
 */
export async function findLowRank(
  pair: LowRankPair,
  products: MatrixProducts,
  { mostRank: mostSought = Infinity, signal }: { mostRank?: number; signal?: AbortSignal } = {},
): Promise<LowRank | null> {
  const { rows, columns } = pair.base;
  const difference = subtract(pair.tuned, pair.base);
  const norm = normOf(difference.values);
  if (norm === 0 || !Number.isFinite(norm)) return null;
  const bytes = rows * columns * bytesOf(pair.dtype);
  const worthwhile = Math.ceil(bytes / ((rows + columns) * FLOAT_BYTES)) - 1;
  const precision = precisionOf(pair.tuned.values);
  const noise = roundingNoise(pair, precision);
  let tried = 0;
  let least = 0;
  let approximate: LowRank | null = null;
  for (const limit of RANKS_TRIED) {
    const mostRank = Math.min(limit, mostSought, worthwhile, Math.min(rows, columns) - 1);
    if (mostRank <= tried || mostRank < least) continue;
    tried = mostRank;
    signal?.throwIfAborted();
    const found = await decompose(difference, Math.min(mostRank + OVERSAMPLING, rows, columns), products);
    // The steepest fall first. An adapter's own spectrum may fall as steeply as into the noise: then a larger rank is exact.
    for (const rank of ranksOf(found.values, { mostRank, norm, noise })) {
      const factors = factorsOf(found, rank);
      const change = await products.product(factors.left, factors.right);
      const error = measureError(pair, change, { norm, noise, precision });
      const measured = { rank, ...factors, cliff: cliffAt(found.values, rank), error };
      if (error.is_rounding) return measured;
      approximate ??= measured;
    }
    const most = approximate === null ? remainderLimit(norm, noise) : REMAINDER_ACCURACY * norm;
    least = leastRank(found.values, norm, most);
  }
  return approximate;
}

/** Rounding explains all of the difference: whatever else there is, hides in it. */
export function differsByRounding(pair: LowRankPair): boolean {
  const norm = normOf(subtract(pair.tuned, pair.base).values);
  return norm <= NOISE_MARGIN * roundingNoise(pair, precisionOf(pair.tuned.values));
}

/**
 * A rank below which no matrix with these largest singular values can be: what they leave unexplained must be explained
 * by others, each no larger than the last of them.
 */
function leastRank(values: Float64Array, norm: number, mostRemainder: number): number {
  const unexplained = norm ** 2 - values.reduce((sum, value) => sum + value ** 2, 0) - mostRemainder ** 2;
  return values.length + Math.max(0, unexplained) / values.at(-1)! ** 2;
}

function remainderLimit(norm: number, noise: number): number {
  return Math.max(MOST_REMAINDER * norm, Math.min(NOISE_MARGIN * noise, MOST_NOISE_SHARE * norm));
}

/**
 * Ranks after which the spectrum falls, and after which almost nothing is left: the one after which it falls the most, then
 * larger ones.
 */
function ranksOf(
  values: Float64Array,
  { mostRank, norm, noise }: { mostRank: number; norm: number; noise: number },
): number[] {
  const limit = remainderLimit(norm, noise);
  const ranks: number[] = [];
  let explained = 0;
  for (let rank = 1; rank <= Math.min(mostRank, values.length - 1); rank++) {
    explained += values[rank - 1]! ** 2;
    const remainder = Math.sqrt(Math.max(0, norm * norm - explained));
    if (remainder <= limit && cliffAt(values, rank) >= LEAST_CLIFF) ranks.push(rank);
  }
  if (ranks.length === 0) return [];
  const steepest = ranks.reduce((best, rank) => (cliffAt(values, rank) > cliffAt(values, best) ? rank : best));
  return ranks.filter((rank) => rank >= steepest);
}

/** Singular values below what float32 sums can tell from zero are all the same. */
function cliffAt(values: Float64Array, rank: number): number {
  const floor = values[0]! * 1e-7;
  return Math.max(values[rank - 1]!, floor) / Math.max(values[rank] ?? 0, floor);
}

interface Decomposition {
  values: Float64Array;
  /** By singular value: [rows] each, and [columns] each. */
  left: Columns;
  right: Columns;
}

async function decompose(difference: Matrix, width: number, products: MatrixProducts): Promise<Decomposition> {
  let range = orthonormalColumns(await products.product(difference, randomMatrix(difference.columns, width)), 1);
  for (let iteration = 0; iteration < POWER_ITERATIONS; iteration++) {
    const across = orthonormalColumns(await products.transposedProduct(difference, toMatrix(range)), 1);
    range = orthonormalColumns(await products.product(difference, toMatrix(across)), 2);
  }
  const projected = toColumns(await products.transposedProduct(difference, toMatrix(range)));
  const triangle = orthonormalise(projected);
  const small = singularTriples(triangle);
  // difference ≈ range · (projected · triangle)ᵀ, and triangle = small.left · values · small.rightᵀ.
  return { values: small.values, left: combine(range, small.right), right: combine(projected, small.left) };
}

function factorsOf({ values, left, right }: Decomposition, rank: number): { left: Matrix; right: Matrix } {
  const scaled = left.slice(0, rank).map((column, at) => column.map((value) => value * values[at]!));
  const columns = right[0]!.length;
  const rightValues = new Float32Array(rank * columns);
  for (let at = 0; at < rank; at++) rightValues.set(right[at]!, at * columns);
  return { left: toMatrix(scaled), right: { rows: rank, columns, values: rightValues } };
}

function measureError(
  { base, tuned }: LowRankPair,
  change: Matrix,
  { norm, noise, precision }: { norm: number; noise: number; precision: Precision },
): LowRankError {
  const rounded = roundTo(precision);
  let most = 0;
  let squares = 0;
  let differing = 0;
  for (let i = 0; i < change.values.length; i++) {
    const given = Math.fround(base.values[i]! + change.values[i]!);
    const error = Math.abs(given - tuned.values[i]!);
    squares += error * error;
    if (error > most) most = error;
    if (error > 0 && rounded(given) !== tuned.values[i]!) differing++;
  }
  const left = Math.sqrt(squares);
  return {
    max_abs: most,
    relative: left / normOf(tuned.values),
    bit_exact: differing === 0,
    is_rounding: left <= NOISE_MARGIN * noise + FACTOR_ROUNDING * norm,
  };
}

type Precision = "float32" | "float16" | "bfloat16";

/** What the values were rounded to at last: merged in half precision, they keep its gaps when they are stored wider. */
function precisionOf(values: Float32Array): Precision {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let used = 0;
  for (let i = 0; i < words.length; i++) used |= words[i]!;
  if ((used & 0xffff) === 0) return "bfloat16";
  return (used & 0x1fff) === 0 ? "float16" : "float32";
}

/** A float32 as its nearest neighbour of the precision. */
function roundTo(precision: Precision): (value: number) => number {
  if (precision === "float16") return (value) => halfToFloat(floatToHalf(value));
  if (precision === "float32") return (value) => value;
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  return (value) => {
    float[0] = value;
    bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000;
    return float[0];
  };
}

/** ‖ ‖ of what rounding both matrices so may have added to the difference: half a unit in the last place, uniform. */
function roundingNoise({ base, tuned }: LowRankPair, precision: Precision): number {
  const mantissaBits = { float32: 23, float16: 10, bfloat16: 7 }[precision];
  return (2 ** -mantissaBits / Math.sqrt(12)) * Math.hypot(normOf(base.values), normOf(tuned.values));
}

function bytesOf(dtype: ElementType): number {
  return { float16: 2, bfloat16: 2, float64: 8 }[dtype as string] ?? 4;
}

function subtract(a: Matrix, b: Matrix): Matrix {
  const values = new Float32Array(a.values.length);
  for (let i = 0; i < values.length; i++) values[i] = a.values[i]! - b.values[i]!;
  return { ...a, values };
}

function normOf(values: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! * values[i]!;
  return Math.sqrt(squares);
}

function randomMatrix(rows: number, columns: number): Matrix {
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = randomBits(SEED, i) / 2 ** 31 - 1;
  return { rows, columns, values };
}

function orthonormalColumns(matrix: Matrix, rounds: 1 | 2): Columns {
  const columns = toColumns(matrix);
  orthonormalise(columns, rounds);
  return columns;
}

function toColumns({ rows, columns, values }: Matrix): Columns {
  return Array.from({ length: columns }, (_, at) => {
    const column = new Float64Array(rows);
    for (let row = 0; row < rows; row++) column[row] = values[row * columns + at]!;
    return column;
  });
}

function toMatrix(columns: Columns): Matrix {
  const rows = columns[0]!.length;
  const values = new Float32Array(rows * columns.length);
  for (const [at, column] of columns.entries()) {
    for (let row = 0; row < rows; row++) values[row * columns.length + at] = column[row]!;
  }
  return { rows, columns: columns.length, values };
}

/** columns · weights, column by column. */
function combine(columns: Columns, weights: Columns): Columns {
  return weights.map((weight) => {
    const sum = new Float64Array(columns[0]!.length);
    for (const [at, column] of columns.entries()) {
      const factor = weight[at]!;
      for (let i = 0; i < sum.length; i++) sum[i]! += factor * column[i]!;
    }
    return sum;
  });
}
