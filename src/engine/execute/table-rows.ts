import { closeSync, openSync, readSync } from "node:fs";
import { Tensor } from "onnxruntime-node";
import type { LiftedTable } from "../../chain/lift-tables.ts";
import { toFloats } from "../../fingerprint/element-stream.ts";
import { elementBits } from "../../onnx/tensor-data.ts";

/**
 * The tables that a graph no longer has (chain/lift-tables.ts), read row by row from the repository as tokens ask for them:
 * a step takes a few rows of tens of thousands, and what was read lies in the system's page cache.
 */
export class TableRows {
  readonly #tables: readonly { lifted: LiftedTable; file: number }[];

  private constructor(tables: readonly { lifted: LiftedTable; file: number }[]) {
    this.#tables = tables;
  }

  static open(lifted: readonly LiftedTable[]): TableRows {
    return new TableRows(lifted.map((each) => ({ lifted: each, file: openSync(each.table.data.path, "r") })));
  }

  /** Are rows looked up by this port? */
  take(port: LiftedTable["index"]): boolean {
    return this.#tables.some(({ lifted }) => lifted.index === port);
  }

  /** What the graph takes: rows in the place of ids and positions that it takes no more. */
  feed(feeds: Readonly<Record<string, Tensor>>, inputNames: readonly string[]): Record<string, Tensor> {
    if (this.#tables.length === 0) return feeds;
    const taken = Object.fromEntries(Object.entries(feeds).filter(([name]) => inputNames.includes(name)));
    for (const { lifted, file } of this.#tables) {
      const index = feeds[lifted.index]!.data as BigInt64Array;
      const rows = readRows(file, lifted, index);
      taken[lifted.input] = new Tensor("float32", rows, [1, index.length, lifted.table.dims[1]!]);
    }
    return taken;
  }

  close(): void {
    for (const { file } of this.#tables) closeSync(file);
  }
}

function readRows(file: number, { table }: LiftedTable, index: BigInt64Array): Float32Array {
  const [rows, width] = table.dims as [number, number];
  const rowBytes = (width * elementBits(table.dtype)) / 8;
  const bytes = new Uint8Array(index.length * rowBytes);
  for (let at = 0; at < index.length;) {
    const row = Number(index[at]!);
    let count = 1;
    while (at + count < index.length && Number(index[at + count]!) === row + count) count++;
    if (row < 0 || row + count > rows) throw new Error(`Row ${row + count - 1} of a table of ${rows} is asked for`);
    const place = bytes.subarray(at * rowBytes, (at + count) * rowBytes);
    readFully(file, place, table.data.offset + row * rowBytes);
    at += count;
  }
  return toFloats(bytes, table.dtype);
}

function readFully(file: number, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length;) {
    const read = readSync(file, into, done, into.length - done, position + done);
    if (read === 0) throw new Error(`A table ends ${into.length - done} bytes early`);
    done += read;
  }
}
