import { elementBits, readTensorRange, streamTensor, tensorBytes, TensorRanges } from "../onnx/tensor-data.ts";
import { recycleChunk, takeChunk } from "../support/chunk-pool.ts";
import { BlockllmError } from "../support/errors.ts";
import { expandRanges, type Weight } from "./weights.ts";

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
  if (
    bits === 4 &&
    take?.axis === "columns" &&
    !weight.transpose &&
    rowBits % 8 === 0 &&
    weight.dims.at(-1)! % 2 === 0
  ) {
    yield* nibblesOf(weight, rowBits / 8);
    return;
  }
  if (rowBits % 8 !== 0 || (take?.axis === "columns" && bits % 8 !== 0) || (weight.transpose && bits % 8 !== 0)) {
    throw new BlockllmError(
      "model_unsupported",
      `${tensor.name}: rows of ${columns} elements of ${bits} bits cannot be rearranged`,
      { hint: "export the model without packing several elements into a byte along this axis" },
    );
  }
  const layout = { rowBytes: rowBits / 8, elementBytes: bits / 8 };
  if (weight.transpose) yield* transposed(weight, layout);
  else if (take!.axis === "rows")
    for (const { start, length } of take!.ranges)
      yield* rangeOf(weight, start * layout.rowBytes, length * layout.rowBytes);
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
  for (let done = 0; done < length; done += TILE_BYTES)
    yield readTensorRange(weight.tensor, offset + done, Math.min(TILE_BYTES, length - done));
}

function* columnsOf(weight: Weight, rows: number, layout: Layout): Generator<Uint8Array> {
  const { tensor, take } = weight;
  const { rowBytes, elementBytes } = layout;
  const runs = take!.ranges.map(({ start, length }) => ({
    start: start * elementBytes,
    length: length * elementBytes,
  }));
  const taken = runs.reduce((sum, run) => sum + run.length, 0);
  const rowsAtOnce = Math.max(1, Math.floor(TILE_BYTES / rowBytes));
  const alone = runs.every(({ length }) => length >= SHORTEST_READ);
  using source = alone ? new TensorRanges(tensor) : null;
  for (let row = 0; row < rows; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - row);
    const tile = alone ? null : readTensorRange(tensor, row * rowBytes, count * rowBytes);
    const out = takeChunk(count * taken);
    let position = 0;
    for (let i = 0; i < count; i++) {
      for (const { start, length } of runs) {
        const target = out.subarray(position, position + length);
        if (tile === null) source!.read((row + i) * rowBytes + start, target);
        else target.set(tile.subarray(i * rowBytes + start, i * rowBytes + start + length));
        position += length;
      }
    }
    if (tile !== null) recycleChunk(tile);
    yield out;
  }
}

/** Columns of 4 bits that leave their neighbour in the byte, as those of rotated pairs do; the first lies in the low half. */
function* nibblesOf({ tensor, rows, take }: Weight, rowBytes: number): Generator<Uint8Array> {
  const columns = expandRanges(take!.ranges);
  const taken = columns.length / 2;
  const rowsAtOnce = Math.max(1, Math.floor(TILE_BYTES / rowBytes));
  for (let row = 0; row < rows; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - row);
    const tile = readTensorRange(tensor, row * rowBytes, count * rowBytes);
    const out = takeChunk(count * taken);
    for (let i = 0; i < count; i++) {
      const nibble = (column: number): number => (tile[i * rowBytes + (column >> 1)]! >> ((column & 1) * 4)) & 15;
      for (let pair = 0; pair < taken; pair++)
        out[i * taken + pair] = nibble(columns[2 * pair]!) | (nibble(columns[2 * pair + 1]!) << 4);
    }
    recycleChunk(tile);
    yield out;
  }
}

/**
 * Runs of columns this long are read one by one: else each of q, k and v would read the whole matrix they are packed
 * in. Shorter ones share the pages of the disk and cost more in calls than the bytes between them.
 */
const SHORTEST_READ = 4096;

/**
 * Transposes in bands of source columns. Each band reads a short run of every row, so the whole file is read once,
 * and the band is written row by row of the result.
 */
function* transposed(weight: Weight, { rowBytes, elementBytes }: Layout): Generator<Uint8Array> {
  const { tensor, rows, columns, take } = weight;
  const rowRanges = take?.axis === "rows" ? take.ranges : [{ start: 0, length: rows }];
  const columnRanges = take?.axis === "columns" ? take.ranges : [{ start: 0, length: columns }];
  const sourceRows = rowRanges.flatMap(({ start, length }) => Array.from({ length }, (_, row) => start + row));
  const height = sourceRows.length;
  const atOnce = Math.max(1, Math.floor(TILE_BYTES / (height * elementBytes)));
  using source = new TensorRanges(tensor);
  for (const { start, length } of columnRanges) {
    for (let band = 0; band < length; band += atOnce) {
      const width = Math.min(atOnce, length - band);
      const runBytes = width * elementBytes;
      const runs = takeChunk(ROWS_TOGETHER * runBytes);
      const out = takeChunk(runBytes * height);
      for (let at = 0; at < height; at += ROWS_TOGETHER) {
        const count = Math.min(ROWS_TOGETHER, height - at);
        for (let i = 0; i < count; i++) {
          const offset = sourceRows[at + i]! * rowBytes + (start + band) * elementBytes;
          source.read(offset, runs.subarray(i * runBytes, (i + 1) * runBytes));
        }
        turn(runs, out, { at, count, width, height, elementBytes });
      }
      recycleChunk(runs);
      yield out;
    }
  }
}

/** Source rows turned together: their elements lie side by side in the result, so each cache line is written once. */
const ROWS_TOGETHER = 16;

interface Turned {
  /** Place of the first of `count` source rows in each row of the result. */
  at: number;
  count: number;
  /** Elements of a source row, and of a row of the result. */
  width: number;
  height: number;
  elementBytes: number;
}

/** Element j of source row i becomes element `at` + i of row j of the result. */
function turn(runs: Uint8Array, out: Uint8Array, { at, count, width, height, elementBytes }: Turned): void {
  const words = elementBytes % 4 === 0 ? 4 : elementBytes % 2 === 0 ? 2 : 1;
  const [source, target] = [wordsOf(runs, words), wordsOf(out, words)];
  const perElement = elementBytes / words;
  for (let j = 0; j < width; j++) {
    for (let word = 0; word < perElement; word++) {
      let from = j * perElement + word;
      let to = (j * height + at) * perElement + word;
      for (let i = 0; i < count; i++) {
        target[to] = source[from]!;
        from += width * perElement;
        to += perElement;
      }
    }
  }
}

/** Integers, not floats: a NaN's bits must survive. Chunks begin at offset 0 of their buffers. */
function wordsOf(bytes: Uint8Array, size: 1 | 2 | 4): Uint8Array | Uint16Array | Uint32Array {
  if (size === 1) return bytes;
  const Words = size === 2 ? Uint16Array : Uint32Array;
  return new Words(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / size);
}
