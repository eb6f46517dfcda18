import { Tensor } from "onnxruntime-node";
import type { Port } from "../../blocks/block.ts";
import type { RotaryBatch } from "./rotary-batch.ts";
import { gatherRows, type RowRange } from "./row-store.ts";
import type { Standing } from "./standing.ts";

/** What follows from the tokens of a step alone, a row per token of the flat batch. */
export interface TokenRows {
  ids: BigInt64Array;
  positions: BigInt64Array;
  rotary: RotaryBatch;
}

/** One call of a segment. */
export interface SegmentRun {
  standing: Standing[];
  /** Their rows, ascending, neighbours joined. */
  ranges: RowRange[];
  rowCount: number;
}

/** What a port takes that no other segment made: ids, positions, cos, sin; null: its rows come from a segment. */
export function tokenInput(port: Port, { standing, ranges, rowCount }: SegmentRun, tokens: TokenRows): Tensor | null {
  switch (port.name) {
    case "ids":
    case "positions":
      return new Tensor("int64", gatherRows(tokens[port.name], 1, ranges), [1, rowCount]);
    case "cos":
    case "sin": {
      const uses = standing.map(({ member, rows }) => ({ rotary: member.rotary!, rows }));
      return new Tensor("float32", tokens.rotary.take(port.name, uses), [1, rowCount, port.width]);
    }
    default:
      return null;
  }
}
