import type { PortName } from "../../blocks/block.ts";

/** Rows [start, start + count) of the flat batch. */
export interface RowRange {
  start: number;
  count: number;
}

/**
 * The values that run between segments during one step: per port and width one buffer with a row per token of the flat
 * batch, so chains of different sizes may share a batch. Views are valid until the rows are put again.
 */
export class RowStore {
  readonly #rowCount: number;
  readonly #buffers = new Map<string, Float32Array>();
  readonly #spare: SpareBuffers;

  constructor(rowCount: number, spare: SpareBuffers) {
    this.#rowCount = rowCount;
    this.#spare = spare;
  }

  /** Not copied where the rows are one range. */
  take(port: PortName, width: number, ranges: readonly RowRange[]): Float32Array {
    const buffer = this.#buffers.get(`${port} ${width}`);
    if (!buffer) throw new Error(`No rows of ${port} with width ${width} were made before they are taken`);
    return gatherRows(buffer, width, ranges);
  }

  /** Keeps `rows` itself where it covers the whole batch, else copies it to its places. */
  put(port: PortName, width: number, ranges: readonly RowRange[], rows: Float32Array): void {
    const key = `${port} ${width}`;
    if (rows.length === this.#rowCount * width) {
      this.#buffers.set(key, rows);
      return;
    }
    const buffer = this.#buffers.get(key) ?? this.#spare.take(key, this.#rowCount * width);
    this.#buffers.set(key, buffer);
    let from = 0;
    for (const { start, count } of ranges) {
      buffer.set(rows.subarray(from, from + count * width), start * width);
      from += count * width;
    }
  }
}

/** Buffers that outlive a step, so that decoding allocates nothing new; contents are left over from before. */
export class SpareBuffers {
  readonly #buffers = new Map<string, Float32Array>();

  take(key: string, length: number): Float32Array {
    let buffer = this.#buffers.get(key);
    if (!buffer || buffer.length < length) {
      buffer = new Float32Array(length);
      this.#buffers.set(key, buffer);
    }
    return buffer.subarray(0, length);
  }
}

export function gatherRows<Rows extends Float32Array | BigInt64Array>(
  rows: Rows,
  width: number,
  ranges: readonly RowRange[],
): Rows {
  const [first] = ranges;
  if (first && ranges.length === 1)
    return rows.subarray(first.start * width, (first.start + first.count) * width) as Rows;
  const gathered = new (rows.constructor as new (length: number) => Rows)(countRows(ranges) * width);
  let to = 0;
  for (const { start, count } of ranges) {
    gathered.set(rows.subarray(start * width, (start + count) * width) as never, to);
    to += count * width;
  }
  return gathered;
}

export function countRows(ranges: readonly RowRange[]): number {
  return ranges.reduce((sum, { count }) => sum + count, 0);
}

/** Ascending ranges with neighbours joined. */
export function joinRanges(ranges: readonly RowRange[]): RowRange[] {
  const joined: RowRange[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    if (last && last.start + last.count === range.start) last.count += range.count;
    else joined.push({ ...range });
  }
  return joined;
}
