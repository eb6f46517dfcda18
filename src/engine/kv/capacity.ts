import { PAGE_TOKENS } from "./page-ledger.ts";

const SMALLEST = 64;

/**
 * Rows a device cache has for a sequence of `tokens`: powers of two from 64, so that few sizes are in use and sequences of
 * one size share a call; and a page behind them, where a call may write rows that nobody reads.
 */
export function capacityFor(tokens: number): number {
  let rows = SMALLEST;
  while (rows < tokens) rows *= 2;
  return rows + PAGE_TOKENS;
}

/** The most tokens whose capacity is at most `rows`; 0: not even the smallest fits. */
export function largestWithin(rows: number): number {
  if (capacityFor(1) > rows) return 0;
  let tokens = SMALLEST;
  while (capacityFor(tokens * 2) <= rows) tokens *= 2;
  return tokens;
}
