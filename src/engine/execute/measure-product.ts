import { InferenceSession, Tensor } from "onnxruntime-node";

import { writeModel } from "../../onnx/write-model.ts";
import { noiseRow, productModel, reduced, type Product } from "./product-kernel.ts";
import type { RowSharing } from "./row-sharing.ts";
import { runtimeOptions } from "./runtime-options.ts";

/** More rows than any kernel takes at once. */
const ROWS = 102;
/** Of each size: other rows, at other places of the call that all are compared with. */
const CALLS = 3;
/** Around the numbers of rows that kernels take at once: 1, 2, 4, 6, 8, 12, 16. */
const EVEN_COUNTS = [2, 4, 6, 8, 10, 12, 14, 16, 18, 34];
const ODD_COUNTS = [1, 3, 5, 7, 9, 11, 13, 15, 17, 33];

const measured = new Map<string, Promise<RowSharing>>();

/**
 * How rows may share the runs of a product, found by multiplying the same rows in calls of several sizes and comparing bits:
 * which kernel takes which rows differs from processor to processor. Once per process and kind of product, a few milliseconds.
 */
export async function measureSharing(product: Product, threads: number): Promise<RowSharing> {
  const small = reduced(product);
  const key = JSON.stringify([small, threads]);
  const known = measured.get(key) ?? measure(small, threads);
  measured.set(key, known);
  return await known;
}

async function measure(product: Product, threads: number): Promise<RowSharing> {
  const { model, inner } = productModel(product);
  const session = await InferenceSession.create(writeModel(model), runtimeOptions(threads));
  const rows = noiseRow(ROWS * inner).map((noise) => noise - 0.5);
  const multiply = async (first: number, count: number): Promise<Float32Array[]> => {
    const x = new Tensor("float32", rows.subarray(first * inner, (first + count) * inner), [1, count, inner]);
    const { data, dims } = (await session.run({ x }))["y"]!;
    return rowsOf(data as Float32Array, dims);
  };
  try {
    const expected = await multiply(0, ROWS);
    const keepsBits = async (counts: number[]): Promise<boolean> => {
      for (const count of counts) {
        for (let call = 0; call < CALLS; call++) {
          const first = call * count;
          const found = await multiply(first, count);
          if (found.some((row, at) => !sameBits(row, expected[first + at]!))) return false;
        }
      }
      return true;
    };
    if (!(await keepsBits(EVEN_COUNTS))) return null;
    return (await keepsBits(ODD_COUNTS)) ? 1 : 2;
  } finally {
    await session.release();
  }
}

/** [..., rows, width] by rows, all leading axes of a row behind each other. */
function rowsOf(data: Float32Array, dims: readonly number[]): Float32Array[] {
  const [count, width] = dims.slice(-2) as [number, number];
  const batches = data.length / (count * width);
  return Array.from({ length: count }, (_, row) => {
    const joined = new Float32Array(batches * width);
    for (let batch = 0; batch < batches; batch++) {
      const from = (batch * count + row) * width;
      joined.set(data.subarray(from, from + width), batch * width);
    }
    return joined;
  });
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}
