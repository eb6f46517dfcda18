import { runningCosts, type SequenceItems } from "./lane-cost.ts";

/** The sequences of each lane, and what the lane that takes longest takes. */
export interface Division {
  groups: SequenceItems[][];
  cost: number;
}

/**
 * Cuts a batch in its order into one group per lane, so that the largest costs as little as such cuts can make it. The order
 * is that of the chains (rankChains): what shares most lies side by side. Fewer groups where there are too few sequences.
 */
export function divideBatch(sequences: SequenceItems[], lanes: number): Division {
  if (lanes === 1 || sequences.length < 2) return { groups: [sequences], cost: runningCosts(sequences).at(-1) ?? 0 };
  const left = Math.floor(lanes / 2);
  const at = cutBetween(sequences, left, lanes - left);
  const first = divideBatch(sequences.slice(0, at), left);
  const second = divideBatch(sequences.slice(at), lanes - left);
  return { groups: [...first.groups, ...second.groups], cost: Math.max(first.cost, second.cost) };
}

/** Where both sides, each shared out evenly among its lanes, take about as long. */
function cutBetween(sequences: SequenceItems[], left: number, right: number): number {
  const before = runningCosts(sequences);
  const behind = runningCosts(sequences.toReversed()).toReversed();
  let best = { at: 1, cost: Infinity };
  for (let at = 1; at < sequences.length; at++) {
    const cost = Math.max(before[at - 1]! / left, behind[at]! / right);
    if (cost < best.cost) best = { at, cost };
  }
  return best.at;
}
