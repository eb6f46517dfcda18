import type { WholeModel } from "./whole-model.ts";

/** Which of two tokens the whole model takes next. */
export interface Parting {
  /** The prompt and the tokens both gave. */
  tokens: readonly number[];
  candidates: readonly [number, number];
  vocabulary: number;
}

/** How sure the whole model is of itself there. Numbers that are none make it sure: they excuse nothing. */
export interface Certainty {
  /** Largest difference of its logits fed at once to its logits fed one by one. */
  ownDifference: number;
  /** So much that the choice could turn round. */
  isUndecided: boolean;
}

/**
 * Is the whole model undecided itself? Where activations are rounded to 8 bits on the way, its logits depend on whether tokens
 * are fed at once or one by one: a last-bit difference moves a rounding. The two tokens are tied if that could turn them
 * round: each logit may move by the largest difference between both ways.
 */
export async function certaintyOf(
  whole: WholeModel,
  { tokens, candidates: [a, b], vocabulary }: Parting,
): Promise<Certainty> {
  const atOnce = await whole.logits(tokens);
  const oneByOne = await whole.logits(tokens, { stepwise: true });
  const last = atOnce.subarray(-vocabulary);
  const ownDifference = largestDifference(atOnce, oneByOne);
  return {
    ownDifference,
    isUndecided: Number.isFinite(ownDifference) && Math.abs(last[a]! - last[b]!) < 2 * ownDifference,
  };
}

/**
 * Are all partings ties? Not where the chain is farther from the whole model, by the largest `difference` of their logits, than
 * twice the whole model from itself.
 */
export function areTies(partings: readonly Certainty[], difference: number): boolean {
  return partings.every(({ isUndecided, ownDifference }) => isUndecided && difference <= 2 * ownDifference);
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  // A NaN on one side only must not pass as "no difference".
  return a.reduce(
    (most, value, i) => (Number.isNaN(value - b[i]!) ? Infinity : Math.max(most, Math.abs(value - b[i]!))),
    0,
  );
}
