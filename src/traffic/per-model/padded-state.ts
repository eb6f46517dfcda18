import { Tensor } from "onnxruntime-node";
import type { OpaqueSpec } from "../../blocks/block.ts";
import { CACHE_ELEMENTS } from "../../engine/execute/opaque-executor.ts";

/** Where the rows of shorter sequences are filled up: in front of their first token, or behind their last. */
export type Padding = "left" | "right";

/** Keys and values of some sequences as one session call takes and gives them: tensors [rows, heads, width, size]. */
export interface PaddedState {
  /** By the name of the past input. */
  tensors: ReadonlyMap<string, Tensor>;
  /** Tokens of each row. */
  lengths: readonly number[];
  /** Of all rows, padding included. */
  width: number;
}

export interface HeldRow {
  tokens: number;
  home: { state: PaddedState; row: number } | null;
}

/** The rows side by side: as they are, where they are just the rows of one state in its order, or copied. */
export function joinRows(spec: OpaqueSpec, padding: Padding, held: readonly HeldRow[]): PaddedState {
  const state = held[0]!.home?.state;
  const asTheyAre = held.every(({ home }, row) => home !== null && home.state === state && home.row === row);
  if (state !== undefined && asTheyAre && state.lengths.length === held.length) return state;
  const lengths = held.map(({ tokens }) => tokens);
  const width = Math.max(...lengths);
  const tensors = spec.past.map((past) => [past.input, joinTensor(past, { held, width, padding })] as const);
  return { tensors: new Map(tensors), lengths, width };
}

export function stateBytes({ tensors }: PaddedState): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + (data as Float32Array).byteLength, 0);
}

type Past = OpaqueSpec["past"][number];

function joinTensor(
  { input, dims, dtype, sequenceAxis }: Past,
  { held, width, padding }: { held: readonly HeldRow[]; width: number; padding: Padding },
): Tensor {
  const shape = dims.map((dim, axis) => (axis === sequenceAxis ? width : axis === 0 ? held.length : Number(dim)));
  // A leading 2 for keys and values is no batch axis; such a model never has more than one row.
  if (typeof dims[0] === "number" && dims.length === 5) shape[0] = dims[0];
  const size = shape.reduce((product, dim) => product * dim, 1);
  const data = new CACHE_ELEMENTS[dtype](size);
  const headSize = shape.at(-1)!;
  const headsOfRow = size === 0 ? 0 : size / (held.length * width * headSize);
  for (const [row, { tokens, home }] of held.entries()) {
    if (home === null) continue;
    const from = home.state.tensors.get(input)!.data as typeof data;
    const fromStart = padding === "left" ? home.state.width - tokens : 0;
    const toStart = padding === "left" ? width - tokens : 0;
    for (let head = 0; head < headsOfRow; head++) {
      const at = ((home.row * headsOfRow + head) * home.state.width + fromStart) * headSize;
      const to = ((row * headsOfRow + head) * width + toStart) * headSize;
      data.set(from.subarray(at, at + tokens * headSize), to);
    }
  }
  return new Tensor(dtype, data as Float32Array, shape);
}
