import type { PlannedChain } from "../../chain/plan.ts";
import type { BatchItem } from "./executor.ts";
import type { RowRange } from "./row-store.ts";

/** One item with its place in the flat batch. */
export interface PlacedItem {
  item: BatchItem;
  /** Place in the list that `execute` was given. */
  index: number;
  chain: number;
  rows: RowRange;
  /** The rows whose logits are asked. */
  wanted: RowRange;
  /** Segments of its chain before this step pass it by (partings.ts). */
  firstStep: number;
}

export interface BatchLayout {
  placed: PlacedItem[];
  ids: BigInt64Array;
  positions: number[];
}

/** Lays all tokens of a batch out as one list, chain after chain in the order that keeps shared segments together. */
export function layOutBatch(
  items: BatchItem[],
  chainOf: (item: BatchItem) => number,
  rank: readonly number[],
): BatchLayout {
  const ordered = items.map((item, index) => ({ item, index, chain: chainOf(item) }));
  ordered.sort((a, b) => rank[a.chain]! - rank[b.chain]! || a.index - b.index);
  let start = 0;
  const placed = ordered.map((entry): PlacedItem => {
    const rows = { start, count: entry.item.tokens.length };
    start += rows.count;
    return { ...entry, rows, wanted: wantedRows(entry.item, rows), firstStep: 0 };
  });
  const ids = new BigInt64Array(start);
  const positions: number[] = [];
  for (const { item } of placed) {
    item.tokens.forEach((token, offset) => {
      ids[positions.length] = BigInt(token);
      positions.push(item.start + offset);
    });
  }
  return { placed, ids, positions };
}

/** rank[chain]: chains that begin alike lie side by side, so that most segments find their rows in one range. */
export function rankChains(chains: readonly PlannedChain[]): number[] {
  const paths = chains.map(({ walk }, chain) => ({
    chain,
    path: walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : [])),
  }));
  paths.sort((a, b) => comparePaths(a.path, b.path) || a.chain - b.chain);
  const rank = Array.from<number>({ length: chains.length });
  paths.forEach(({ chain }, place) => (rank[chain] = place));
  return rank;
}

function comparePaths(a: number[], b: number[]): number {
  const differs = a.findIndex((segment, at) => segment !== b[at]);
  return differs === -1 ? a.length - b.length : a[differs]! - (b[differs] ?? -1);
}

function wantedRows({ logits }: BatchItem, { start, count }: RowRange): RowRange {
  if (logits === "all") return { start, count };
  return { start: start + count - 1, count: logits === "last" ? 1 : 0 };
}
