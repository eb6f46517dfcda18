import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { findLowRank } from "../../src/fingerprint/low-rank.ts";
import { type Matrix, MatrixProducts } from "../../src/fingerprint/matrix-products.ts";
import type { ElementType } from "../../src/onnx/model.ts";
import { gaussians } from "./gaussians.ts";

const ROWS = 192;
const COLUMNS = 256;
const base = matrixOf(gaussians(ROWS * COLUMNS, 1));

let products: MatrixProducts;
beforeAll(async () => void (products = await MatrixProducts.open()));
afterAll(async () => await products.close());

describe("findLowRank", () => {
  it.each([1, 4, 8, 16, 40])("finds rank %i, and factors that give the weights back", async (rank) => {
    const found = await look(plus(lowRank(rank, 0.1)));
    expect(found).toMatchObject({ rank, left: { rows: ROWS, columns: rank }, right: { rows: rank, columns: COLUMNS } });
    expect(found!.cliff).toBeGreaterThan(100);
    expect(found!.error.relative).toBeLessThan(1e-6);
  });

  it("finds an adapter that changed little", async () => {
    expect(await look(plus(lowRank(8, 1e-4)))).toMatchObject({ rank: 8 });
  });

  it("finds a few changed rows, as an embedding with new tokens has", async () => {
    const change = new Float32Array(ROWS * COLUMNS);
    change.set(gaussians(3 * COLUMNS, 5), 7 * COLUMNS);
    expect(await look(plus(change))).toMatchObject({ rank: 3 });
  });

  it.each([1e-4, 0.1, 1])("finds none in a full fine-tune of relative size %d", async (relative) => {
    expect(await look(plus(gaussians(ROWS * COLUMNS, 3).map((value) => value * relative)))).toBeNull();
  });

  it("finds none where a few directions stand out of a full-rank change", async () => {
    const change = lowRank(2, 0.5);
    const tail = gaussians(ROWS * COLUMNS, 9);
    expect(await look(plus(change.map((value, i) => value + 0.05 * tail[i]!)))).toBeNull();
  });

  it("finds none in equal matrices, nor where a weight is infinite", async () => {
    expect(await look(base)).toBeNull();
    const spoilt = base.values.slice();
    spoilt[0] = Infinity;
    expect(await look(matrixOf(spoilt))).toBeNull();
  });

  it("finds no rank whose factors would take as much as the matrix", async () => {
    expect(await look(plus(lowRank(100, 0.1)))).toMatchObject({ rank: 100 });
    expect(await look(plus(lowRank(112, 0.1)))).toBeNull();
  });

  it("tells what rounding leaves from what the factors do not explain", async () => {
    expect((await look(plus(lowRank(8, 0.1))))!.error.is_rounding).toBe(true);
    const tail = gaussians(ROWS * COLUMNS, 9);
    const almost = lowRank(8, 0.1).map((value, i) => value + 1e-4 * tail[i]!);
    expect(await look(plus(almost))).toMatchObject({ rank: 8, error: { is_rounding: false, bit_exact: false } });
  });

  it("takes all of an adapter whose own singular values fall as steeply as into rounding", async () => {
    const weak = lowRank(6, 1e-5, 21);
    const found = await look(plus(lowRank(2, 1).map((value, i) => value + weak[i]!)));
    expect(found).toMatchObject({ rank: 8, error: { is_rounding: true } });
    // Merged in half precision the strong directions alone are not the weights to rounding, all of them are.
    const steep = [1, 0.1, 0.01].map((relative, at) => lowRank(2, relative, 30 + 10 * at));
    const merged = plus(steep[0]!.map((value, i) => value + steep[1]![i]! + steep[2]![i]!));
    expect(await look(rounded(merged), { from: rounded(base) })).toMatchObject({
      rank: 6,
      error: { is_rounding: true },
    });
  });

  it("finds a rank above the rounding of bfloat16, and states the error", async () => {
    const found = await look(rounded(plus(lowRank(8, 0.1))), { from: rounded(base), dtype: "bfloat16" });
    expect(found).toMatchObject({ rank: 8 });
    expect(found!.error.relative).toBeLessThan(5e-3);
    expect(found!.error.relative).toBeGreaterThan(1e-5);
    expect(found!.error.is_rounding).toBe(true);
  });

  it.each([8, 16])("finds rank %i where weights were merged in bfloat16 and stored as float32", async (rank) => {
    const found = await look(rounded(plus(lowRank(rank, 0.1))), { from: rounded(base) });
    expect(found).toMatchObject({ rank, error: { is_rounding: true } });
  });

  it("finds none that hides under the rounding of bfloat16", async () => {
    const hidden = rounded(plus(lowRank(8, 5e-4)));
    expect(await look(hidden, { from: rounded(base), dtype: "bfloat16" })).toBeNull();
  });
});

async function look(tuned: Matrix, options: { from?: Matrix; dtype?: ElementType } = {}) {
  const { from = base, dtype = "float32" } = options;
  return await findLowRank({ base: from, tuned, dtype }, products);
}

function plus(change: Float32Array): Matrix {
  return matrixOf(base.values.map((value, i) => value + change[i]!));
}

/** Of `relative` times the magnitude of the base. */
function lowRank(rank: number, relative: number, seed = 11): Float32Array {
  const left = gaussians(ROWS * rank, seed);
  const right = gaussians(rank * COLUMNS, seed + 1);
  return Float32Array.from({ length: ROWS * COLUMNS }, (_, i) => {
    const [row, column] = [Math.floor(i / COLUMNS), i % COLUMNS];
    let sum = 0;
    for (let at = 0; at < rank; at++) sum += left[row * rank + at]! * right[at * COLUMNS + column]!;
    return (relative * sum) / Math.sqrt(rank);
  });
}

/** To the nearest bfloat16, ties to even. */
function rounded({ values }: Matrix): Matrix {
  const bits = new Uint32Array(values.slice().buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = (bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1)) & 0xffff0000;
  return matrixOf(new Float32Array(bits.buffer));
}

function matrixOf(values: Float32Array): Matrix {
  return { rows: ROWS, columns: COLUMNS, values };
}
