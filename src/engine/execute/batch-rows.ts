import type { BatchItem } from "./executor.ts";

/** Rows that the items have together: one per token. */
export function rowsOf(items: readonly BatchItem[]): number {
  return items.reduce((sum, { tokens }) => sum + tokens.length, 0);
}
