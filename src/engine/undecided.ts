import type { WholeModel } from "./whole-model.ts";

/** Which of two tokens the whole model takes next. */
export interface Parting {
  /** The prompt and the tokens both gave. */
  tokens: readonly number[];
  candidates: readonly [number, number];
  vocabulary: number;
}

/**
 * Is the whole model undecided itself? Where activations are rounded to 8 bits on the way, its logits depend on whether tokens
 * are fed at once or one by one: a last-bit difference moves a rounding. The two tokens are tied if that could turn them
 * round: each logit may move by the largest difference between both ways.
 */
export async function isUndecided(
  whole: WholeModel,
  { tokens, candidates: [a, b], vocabulary }: Parting,
): Promise<boolean> {
  const atOnce = await whole.logits(tokens);
  const oneByOne = await whole.logits(tokens, { stepwise: true });
  const last = atOnce.subarray(-vocabulary);
  return Math.abs(last[a]! - last[b]!) < 2 * largestDifference(atOnce, oneByOne);
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  // A NaN on one side only must not pass as "no difference".
  return a.reduce(
    (most, value, i) => (Number.isNaN(value - b[i]!) ? Infinity : Math.max(most, Math.abs(value - b[i]!))),
    0,
  );
}
