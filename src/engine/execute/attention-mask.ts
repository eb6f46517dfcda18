import type { CoreSpec } from "../../blocks/block.ts";

export interface MaskShape {
  /** Position of the first query row. */
  start: number;
  queries: number;
  /** Position of the first key row that is a token's. */
  firstKey: number;
}

export interface AttentionMask {
  /** Added to the scores: [1, heads or 1, queries, keys]. */
  values: Float32Array;
  dims: [1, number, number, number];
}

/** Does a call need more than causality over exactly the keys it is given? */
export function needsMask(core: CoreSpec, { start, queries, firstKey }: MaskShape): boolean {
  if (core.alibiSlopes || core.sinks) return true;
  return core.window !== null && start + queries - core.window > firstKey;
}

/**
 * Causality, window, ALiBi bias (arXiv 2108.12409) and sinks as one additive mask. A sink is key column 0: its key row
 * is zero, so its whole score is the mask's, and its value row is zero.
 */
export function attentionMask(core: CoreSpec, { start, queries, firstKey }: MaskShape): AttentionMask {
  const lead = core.sinks ? 1 : 0;
  const keys = lead + start + queries - firstKey;
  const heads = core.alibiSlopes || core.sinks ? core.heads : 1;
  const values = new Float32Array(heads * queries * keys);
  let at = 0;
  for (let head = 0; head < heads; head++) {
    const slope = core.alibiSlopes?.[head] ?? 0;
    for (let query = start; query < start + queries; query++) {
      if (core.sinks) values[at++] = core.sinks[head]!;
      const oldest = core.window === null ? 0 : query - core.window + 1;
      for (let key = firstKey; key < start + queries; key++) {
        values[at++] = key < oldest || key > query ? -Infinity : slope * (key - query);
      }
    }
  }
  return { values, dims: [1, heads, queries, keys] };
}
