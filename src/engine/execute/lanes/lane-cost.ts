import type { TensorEntry } from "../../../blocks/block.ts";
import { rowsOf } from "../batch-rows.ts";
import type { LoadablePlan } from "../ready-plan.ts";
import type { BatchItem } from "../executor.ts";

/** What an item takes of one segment. */
interface SegmentUse {
  segment: number;
  /** Of its weights, read once for all rows of a lane. */
  bytes: number;
  /** What a row takes to compute, in bytes that are read meanwhile. */
  rowBytes: number;
  /** Only rows whose logits are asked come by. */
  tail: boolean;
}

/** What a chain's items take. */
export interface ChainCost {
  uses: readonly SegmentUse[];
  /** Of keys and values. */
  bytesPerToken: number;
}

/** All items of one sequence, which belong into one lane, and what its chain takes. */
export interface SequenceItems {
  items: BatchItem[];
  chain: ChainCost;
}

/**
 * One row on one thread takes the time in which so much of the weights is read: float32 and blocks of 8 or 4 bits of one layer
 * with one row and with fourteen (docs/decisions/2026-11-24-what-bounds-a-segment.md).
 */
const ROW_SHARE = { floats: 1 / 18, blocks: 1 / 5 };
/** So many query rows of a chunk take as long as its keys and values take to be read. */
const QUERIES_PER_READING = 8;

/** Per chain of a plan. */
export function chainCosts({ plan, stages, sessions }: LoadablePlan): ChainCost[] {
  return plan.chains.map(({ chain }, index) => {
    const uses = stages.flatMap(({ segment, members }): SegmentUse[] => {
      const member = members.get(index);
      if (!member) return [];
      const { bytes } = sessions.sessions[segment.id]!;
      const share = ROW_SHARE[isOfBlocks(segment.parts.flatMap(({ tensors }) => tensors)) ? "blocks" : "floats"];
      return [{ segment: segment.id, bytes, rowBytes: bytes * share, tail: member.tail }];
    });
    const values = chain.cores.reduce((sum, core) => sum + core.kvHeads * (core.headSize + core.valueHeadSize), 0);
    return { uses, bytesPerToken: 4 * values };
  });
}

/** What the first sequence takes, the first two together, and so on: about the time of a lane with them, in bytes read. */
export function runningCosts(sequences: readonly SequenceItems[]): number[] {
  const present = new Set<number>();
  let cost = 0;
  return sequences.map(({ items, chain }) => {
    const rows = rowsOf(items);
    const wanted = items.reduce((sum, item) => sum + wantedRows(item), 0);
    for (const { segment, bytes, rowBytes, tail } of chain.uses) {
      const own = tail ? wanted : rows;
      if (own === 0) continue;
      if (!present.has(segment)) cost += bytes;
      present.add(segment);
      cost += own * rowBytes;
    }
    for (const { start, tokens } of items)
      cost += (start + tokens.length) * chain.bytesPerToken * (1 + tokens.length / QUERIES_PER_READING);
    return cost;
  });
}

function wantedRows({ tokens, logits }: BatchItem): number {
  return logits === "all" ? tokens.length : Number(logits === "last");
}

function isOfBlocks(tensors: readonly TensorEntry[]): boolean {
  const bytesOf = (all: readonly TensorEntry[]): number => all.reduce((sum, { bytes }) => sum + bytes, 0);
  return 2 * bytesOf(tensors.filter(({ dtype }) => !/float/.test(dtype))) > bytesOf(tensors);
}
