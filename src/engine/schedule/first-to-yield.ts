import type { Sequence } from "../sequence.ts";

/**
 * Of the worst class; in it the fewest cached tokens, which are the cheapest to compute again; of equals who came last.
 * In the best class the longest never yields to a shorter one, so something always ends.
 */
export function firstToYield(sequences: Iterable<Sequence>): Sequence | undefined {
  return [...sequences].toSorted((a, b) => b.rank - a.rank || a.cached - b.cached || b.id - a.id)[0];
}
