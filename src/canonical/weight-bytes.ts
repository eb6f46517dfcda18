import { elementBits, readTensorRange, streamTensor, tensorBytes } from "../onnx/tensor-data.ts";
import { recycleChunk, takeChunk } from "../support/chunk-pool.ts";
import { BlockllmError } from "../support/errors.ts";
import type { Weight } from "./weights.ts";

/** Bytes of source read at once while rearranging; bounds memory whatever the tensor's size. */
const TILE_BYTES = 8 << 20;

/** A weight's bytes in canonical form, little-endian and row-major, in chunks of bounded size. */
export async function* streamWeight(weight: Weight): AsyncGenerator<Uint8Array> {
  if (weight.take === null && !weight.transpose) yield* streamTensor(weight.tensor, TILE_BYTES);
  else yield* rearranged(weight);
}

export function weightBytes(weight: Weight): number {
  return tensorBytes(weight.tensor.dtype, weight.dims);
}

function* rearranged(given: Weight): Generator<Uint8Array> {
  const weight = inBytes(given);
  const { tensor, rows, columns, take } = weight;
  const bits = weight === given ? elementBits(tensor.dtype) : 8;
  const rowBits = columns * bits;
  if (rowBits % 8 !== 0 || (take?.axis === "columns" && bits % 8 !== 0) || (weight.transpose && bits % 8 !== 0)) {
    throw new BlockllmError("model_unsupported", `${tensor.name}: rows of ${columns} elements of ${bits} bits cannot be rearranged`, { hint: "export the model without packing several elements into a byte along this axis" });
  }
  const layout = { rowBytes: rowBits / 8, elementBytes: bits / 8 };
  if (weight.transpose) yield* transposed(weight, layout);
  else if (take!.axis === "rows") for (const { start, length } of take!.ranges) yield* rangeOf(weight, start * layout.rowBytes, length * layout.rowBytes);
  else yield* columnsOf(weight, rows, layout);
}

interface Layout {
  rowBytes: number;
  elementBytes: number;
}

/** Two 4-bit elements share a byte: pairs that stay together move as bytes. */
function inBytes(weight: Weight): Weight {
  const { take, transpose, columns } = weight;
  if (elementBits(weight.tensor.dtype) !== 4 || transpose || columns % 2 !== 0) return weight;
  const ranges = take?.axis === "columns" ? take.ranges : [];
  if (ranges.some(({ start, length }) => start % 2 !== 0 || length % 2 !== 0)) return weight;
  const halved = ranges.map(({ start, length }) => ({ start: start / 2, length: length / 2 }));
  return { ...weight, columns: columns / 2, take: take?.axis === "columns" ? { ...take, ranges: halved } : take };
}

function* rangeOf(weight: Weight, offset: number, length: number): Generator<Uint8Array> {
  for (let done = 0; done < length; done += TILE_BYTES) yield readTensorRange(weight.tensor, offset + done, Math.min(TILE_BYTES, length - done));
}

function* columnsOf({ tensor, take }: Weight, rows: number, { rowBytes, elementBytes }: Layout): Generator<Uint8Array> {
  const { ranges } = take!;
  const taken = ranges.reduce((sum, range) => sum + range.length, 0) * elementBytes;
  const rowsAtOnce = Math.max(1, Math.floor(TILE_BYTES / rowBytes));
  for (let row = 0; row < rows; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - row);
    const source = readTensorRange(tensor, row * rowBytes, count * rowBytes);
    const out = takeChunk(count * taken);
    let position = 0;
    for (let i = 0; i < count; i++) {
      for (const { start, length } of ranges) {
        const from = i * rowBytes + start * elementBytes;
        out.set(source.subarray(from, from + length * elementBytes), position);
        position += length * elementBytes;
      }
    }
    recycleChunk(source);
    yield out;
  }
}

/**
 * Transposes in bands of source columns. Each band reads a short run of every row, so the whole file is read once,
 * and the band is written row by row of the result.
 */
function* transposed(weight: Weight, { rowBytes, elementBytes }: Layout): Generator<Uint8Array> {
  const { tensor, rows, columns, take } = weight;
  const rowList = take?.axis === "rows" ? take.ranges : [{ start: 0, length: rows }];
  const columnList = take?.axis === "columns" ? take.ranges : [{ start: 0, length: columns }];
  const outRow = rowList.reduce((sum, range) => sum + range.length, 0);
  const atOnce = Math.max(1, Math.floor(TILE_BYTES / (outRow * elementBytes)));
  for (const { start, length } of columnList) {
    for (let band = 0; band < length; band += atOnce) {
      const width = Math.min(atOnce, length - band);
      const out = takeChunk(width * outRow * elementBytes);
      let at = 0;
      for (const range of rowList) {
        for (let row = range.start; row < range.start + range.length; row++, at++) {
          const run = readTensorRange(tensor, row * rowBytes + (start + band) * elementBytes, width * elementBytes);
          scatter(run, out, { at, outRow, elementBytes });
          recycleChunk(run);
        }
      }
      yield out;
    }
  }
}

/** Element j of a source row becomes element `at` of result row j. */
function scatter(run: Uint8Array, out: Uint8Array, { at, outRow, elementBytes }: { at: number; outRow: number; elementBytes: number }): void {
  if (elementBytes === 4 && run.byteOffset % 4 === 0) {
    const source = new Uint32Array(run.buffer, run.byteOffset, run.length / 4);
    const target = new Uint32Array(out.buffer, out.byteOffset, out.length / 4);
    for (let j = 0; j < source.length; j++) target[j * outRow + at] = source[j]!;
    return;
  }
  const count = run.length / elementBytes;
  for (let j = 0; j < count; j++) {
    for (let b = 0; b < elementBytes; b++) out[(j * outRow + at) * elementBytes + b] = run[j * elementBytes + b]!;
  }
}
