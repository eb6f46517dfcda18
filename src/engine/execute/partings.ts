import type { PlacedItem } from "./batch-layout.ts";
import type { RowStore } from "./row-store.ts";
import type { Standing } from "./standing.ts";
import type { WalkStage } from "./walk-stages.ts";

/**
 * Where an item begins between two segments, its rows are put there and it is marked so that segments before pass it by.
 * In a plan that has no segment which begins there it starts from its tokens, and comes to the same.
 */
export function beginBetween(placed: PlacedItem, stages: readonly WalkStage[], values: RowStore): void {
  const { begin } = placed.item;
  if (!begin || !stages.some(({ members }) => members.get(placed.chain)?.step === begin.step)) return;
  placed.firstStep = begin.step;
  let at = 0;
  for (const { name, width } of begin.ports) {
    const length = placed.rows.count * width;
    // A copy: what covers a whole batch is kept as it is, and changed by later segments.
    values.put(name, width, [placed.rows], begin.rows.slice(at, at + length));
    at += length;
  }
}

/** Gives out copies of the rows that stand before a segment, where the item wants them. */
export function keepPartingRows({ placed, member, rows }: Standing, values: RowStore): void {
  const parting = placed.item.partings?.find(({ step }) => step === member.step);
  if (!parting || rows.count !== placed.rows.count) return;
  const kept = new Float32Array(parting.ports.reduce((sum, { width }) => sum + width * rows.count, 0));
  let at = 0;
  for (const { name, width } of parting.ports) {
    kept.set(values.take(name, width, [rows]), at);
    at += rows.count * width;
  }
  placed.item.keepRows?.(parting.step, kept);
}
