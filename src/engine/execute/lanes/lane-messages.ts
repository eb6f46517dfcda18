import type { CoreSpec } from "../../../blocks/block.ts";
import type { LiftedTable } from "../../../chain/lift-tables.ts";
import type { PlainError } from "../../engine-messages.ts";
import type { WalkPlan } from "../batch-walker.ts";
import type { BatchItem } from "../executor.ts";
import type { RowSharing } from "../row-sharing.ts";

/** What a lane's thread is started with. */
export interface LaneStart {
  threads: number;
}

/** What lanes know an open segment by. */
export type LaneKey = number;

/** Answered in their order: `open` and `run` by their own message, the others not at all. */
export type ToLane =
  | { type: "open"; segment: LaneSegment }
  | { type: "close"; key: LaneKey }
  | { type: "adopt"; plan: LanePlan }
  /** `keys`: by the ids of the plan's segments; null: one that no item comes by. */
  | { type: "run"; keys: readonly (LaneKey | null)[]; items: BatchItem[]; sequences: LentSequence[] }
  | { type: "end" };

export type FromLane =
  | { type: "opened"; error: PlainError | null }
  | { type: "ran"; logits: Float32Array[]; kept: KeptRows[]; caches: LentCaches }
  | { type: "failed"; error: PlainError; caches: LentCaches };

/** A packed segment (packed-model.ts). */
export interface LaneSegment {
  key: LaneKey;
  path: string;
  lifted: readonly LiftedTable[];
  sharing: RowSharing;
}

/** What a WalkPlan is made from in the lane's thread. */
export interface LanePlan extends Pick<WalkPlan, "stages" | "rank" | "tables"> {
  /** Per chain. */
  cores: readonly (readonly CoreSpec[])[];
}

export interface LentSequence {
  sequence: number;
  chain: number;
  buffers: ArrayBuffer[];
}

/** Per sequence, in the order they came. */
export type LentCaches = ArrayBuffer[][];

/** What an item's `keepRows` is to be called with: a function cannot go along. */
export interface KeptRows {
  item: number;
  step: number;
  rows: Float32Array;
}
