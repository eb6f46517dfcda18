import type { BatchItem } from "./execute/executor.ts";
import { rowsOfPiece } from "./kv/stretch-state.ts";
import type { Work } from "./schedule/next-work.ts";

/** What the executor is told of one piece of work. */
export function batchItem(work: Work): BatchItem {
  const { sequence, start, count, stepwise, samples, draft } = work;
  const tokens = [...sequence.tokens.slice(start, start + count), ...draft];
  const logits = draft.length > 0 ? "all" : samples ? "last" : "none";
  return { sequence: sequence.id, tokens, start, logits, stepwise, ...(stepwise ? {} : partingsOf(work)) };
}

/** Where the item may begin, by what others computed, and which rows on its way others could begin with. */
function partingsOf({ sequence, count, shared, partingRows }: Work): Partial<BatchItem> {
  const { stretches } = sequence.model;
  const last = stretches[shared.length - 1];
  const begin = last?.parting && { ...last.parting, rows: rowsOfPiece(shared.at(-1)!, last, count) };
  const partings = stretches.slice(shared.length).flatMap(({ parting }) => parting ?? []);
  return {
    ...(begin && { begin }),
    ...(partings.length > 0 && { partings, keepRows: (step, rows) => void partingRows.set(step, rows) }),
  };
}
