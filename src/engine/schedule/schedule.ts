import type { Sequence } from "../sequence.ts";
import type { Work } from "./next-work.ts";

export interface Schedule {
  work: Work[];
  /** Gave their pages up in this step and wait to go on; their state must be released before the work runs. */
  yielded: Sequence[];
  /** Begin in this step, some of them with the first chunks of their prompts cached by others. */
  admitted: Admission[];
}

export interface Admission {
  sequence: Sequence;
  /** Chunk by chunk, the pieces of all stretches. */
  prefix: Float32Array[][];
  /** It comes back to what was set aside of it. */
  returns: boolean;
}
