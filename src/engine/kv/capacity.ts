import type { CoreSpec } from "../../blocks/block.ts";
import { PAGE_TOKENS } from "./page-ledger.ts";

const SMALLEST = 64;

/**
 * Rows a device cache has for a sequence of `tokens`: powers of two from 64, because memory comes in powers of two there,
 * and so that sequences of one size share a call. Behind the tokens there is a page, where a call may write rows that
 * nobody reads.
 */
export function capacityFor(tokens: number): number {
  let rows = SMALLEST;
  while (rows < tokens + PAGE_TOKENS) rows *= 2;
  return rows;
}

/** The most tokens whose capacity is at most `rows`; 0: not even the smallest fits. */
export function largestWithin(rows: number): number {
  if (rows < SMALLEST) return 0;
  let capacity = SMALLEST;
  while (capacity * 2 <= rows) capacity *= 2;
  return tokensWithin(capacity);
}

export function tokensWithin(capacity: number): number {
  return capacity - PAGE_TOKENS;
}

/** What a row of a capacity takes on a device: the memory of each tensor, float32, is rounded up to a power of two. */
export function deviceBytesPerToken(cores: readonly CoreSpec[]): number {
  return cores.reduce((sum, { kvHeads, headSize }) => sum + 2 * 4 * powerOfTwo(kvHeads * headSize), 0);
}

function powerOfTwo(atLeast: number): number {
  let power = 1;
  while (power < atLeast) power *= 2;
  return power;
}
