import type { PlainError } from "../engine/engine-messages.ts";
import type { Load, LoadResult } from "./run-load.ts";
import type { Side } from "./side.ts";
import type { Holdings, TargetModel } from "./target.ts";

/** From bench to the process of one side; one at a time, each is answered once. */
export type ToSide = { type: "open"; side: Side } | { type: "run"; load: Load; warmUp: Load | null };

export type FromSide =
  | { type: "opened"; models: readonly TargetModel[]; seconds: number }
  /** `left`: what the target held when everybody had an answer and it had time to tidy up. */
  | { type: "ran"; result: LoadResult; left: Holdings | null }
  /** `error` null: a bug, whose stack went to stderr. */
  | { type: "failed"; error: PlainError | null };
