import type { PlacedItem } from "./batch-layout.ts";
import type { RowRange } from "./row-store.ts";
import type { StageMember, WalkStage } from "./walk-stages.ts";

/** An item where it stands in one stage. */
export interface Standing {
  placed: PlacedItem;
  member: StageMember;
  /** Its rows of the flat batch that take part. */
  rows: RowRange;
}

/** Items whose chain takes part in the stage with at least one row, in the order of the flat batch. */
export function standingBefore(stage: WalkStage, placed: PlacedItem[]): Standing[] {
  return placed.flatMap((item) => {
    const member = stage.members.get(item.chain);
    if (!member || member.step < item.firstStep) return [];
    const rows = member.tail ? item.wanted : item.rows;
    return rows.count === 0 ? [] : [{ placed: item, member, rows }];
  });
}

/** All in one run; where a kernel's bits depend on the rows beside, each sequence in the runs it would have alone. */
export function runsOf(standing: Standing[], rowInvariant: boolean): Standing[][] {
  if (standing.length === 0) return [];
  if (rowInvariant) return [standing];
  return standing.flatMap((one) => (one.placed.item.stepwise ? singleRows(one) : [one])).map((one) => [one]);
}

/** Each row as an item of its own. */
function singleRows(standing: Standing): Standing[] {
  const { start, count } = standing.rows;
  return Array.from({ length: count }, (_, row) => ({ ...standing, rows: { start: start + row, count: 1 } }));
}

/** The adapter of every row, in the order of the rows. */
export function adapterRows(standing: Standing[]): BigInt64Array {
  return BigInt64Array.from(
    standing.flatMap(({ member, rows }) => Array.from({ length: rows.count }, () => BigInt(member.adapter))),
  );
}

/** Puts one run's rows [rows, width] where each item's logits belong. */
export function handOutLogits(
  rows: Float32Array,
  width: number,
  { standing, logits }: { standing: Standing[]; logits: Float32Array[] },
): void {
  let first = 0;
  for (const { placed, rows: range } of standing) {
    const { wanted, index } = placed;
    const skipped = Math.max(0, wanted.start - range.start);
    const given = rows.subarray((first + skipped) * width, (first + range.count) * width);
    first += range.count;
    if (given.length >= wanted.count * width) {
      logits[index] = given.subarray(0, wanted.count * width);
      continue;
    }
    if (logits[index]!.length === 0) logits[index] = new Float32Array(wanted.count * width);
    logits[index]!.set(given, (range.start + skipped - wanted.start) * width);
  }
}
