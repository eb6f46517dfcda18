import type { Tensor } from "onnxruntime-node";
import type { PortName } from "../../../blocks/block.ts";
import type { RowRange } from "../row-store.ts";
import type { DeviceTensors } from "./device-tensors.ts";

/** A tensor [1, rows, width] and how many rows of the batch still have their newest value in it. */
interface Piece {
  tensor: Tensor;
  rows: number;
  current: number;
  free: () => void;
}

interface Column {
  pieces: (Piece | undefined)[];
  /** Place of each row of the batch within its piece. */
  places: Int32Array;
}

/**
 * The values that run between segments during one step, on the device: per port and width, where the newest value of
 * every row of the flat batch lies. What one segment gives to the next as a whole is handed on uncopied.
 */
export class DeviceRows {
  readonly #rowCount: number;
  readonly #tensors: DeviceTensors;
  readonly #columns = new Map<string, Column>();

  constructor(rowCount: number, tensors: DeviceTensors) {
    this.#rowCount = rowCount;
    this.#tensors = tensors;
  }

  /** `own`: the tensor was made for the caller, who disposes it. */
  async take(port: PortName, width: number, ranges: readonly RowRange[]): Promise<{ tensor: Tensor; own: boolean }> {
    const column = this.#columns.get(`${port} ${width}`);
    const wanted = ranges.flatMap(({ start, count }) => Array.from({ length: count }, (_, row) => start + row));
    const pieces = [...new Set(wanted.map((row) => column?.pieces[row]))] as Piece[];
    if (!column || pieces.includes(undefined as never))
      throw new Error(`No rows of ${port} with width ${width} were made before they are taken`);
    const [first] = pieces as [Piece];
    if (pieces.length === 1 && first.rows === wanted.length && wanted.every((row, at) => column.places[row] === at))
      return { tensor: first.tensor, own: false };
    const begins = new Map<Piece, number>();
    let begin = 0;
    for (const piece of pieces) {
      begins.set(piece, begin);
      begin += piece.rows;
    }
    const places = wanted.map((row) => begins.get(column.pieces[row]!)! + column.places[row]!);
    const tensors = pieces.map(({ tensor }) => tensor);
    return { tensor: await this.#tensors.gather(tensors, places), own: true };
  }

  /** Row `rows[i]` of the batch is now row `places[i]` of `tensor`; `free` is called when no row is left in it. */
  put(
    { port, width }: { port: PortName; width: number },
    { tensor, free }: { tensor: Tensor; free: () => void },
    { rows, places }: { rows: readonly number[]; places: readonly number[] },
  ): void {
    const key = `${port} ${width}`;
    const fresh = (): Column => ({ pieces: Array(this.#rowCount), places: new Int32Array(this.#rowCount) });
    const column = this.#columns.get(key) ?? fresh();
    this.#columns.set(key, column);
    const piece: Piece = { tensor, free, rows: tensor.dims[1]!, current: rows.length };
    rows.forEach((row, at) => {
      forget(column.pieces[row]);
      column.pieces[row] = piece;
      column.places[row] = places[at]!;
    });
  }

  /** Frees what is left of the step. */
  dispose(): void {
    for (const { pieces } of this.#columns.values()) for (const piece of pieces) forget(piece);
    this.#columns.clear();
  }
}

function forget(piece: Piece | undefined): void {
  if (piece && --piece.current === 0) piece.free();
}
