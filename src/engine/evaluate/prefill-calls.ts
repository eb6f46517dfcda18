import type { BatchItem } from "../execute/executor.ts";

/** One call of an executor that takes the next piece of some sequences of a batch. */
export interface PrefillCall {
  /** `sequence` counts within the batch. */
  items: BatchItem[];
  rowCount: number;
  /** Row of each sequence's first token among the rows of the batch. */
  offsets: number[];
}

/** Rows of one batch: enough to fill the matrix kernels, few enough to stop soon. */
const BATCH_ROWS = 256;

/** Whole sequences, in their order; one that is longer than a batch has one of its own. */
export function batchesOf(sequences: readonly (readonly number[])[]): (readonly number[])[][] {
  const batches: (readonly number[])[][] = [];
  let rows = Infinity;
  for (const tokens of sequences) {
    if (rows + tokens.length > BATCH_ROWS) {
      batches.push([]);
      rows = 0;
    }
    batches.at(-1)!.push(tokens);
    rows += tokens.length;
  }
  return batches;
}

/** The calls that take a batch in, each sequence cut at multiples of `chunk` as the engine cuts a prompt. */
export function prefillCalls(batch: readonly (readonly number[])[], chunk: number): PrefillCall[] {
  const offsets = batch.map((_, at) => batch.slice(0, at).reduce((sum, tokens) => sum + tokens.length, 0));
  const calls: PrefillCall[] = [];
  for (let start = 0; ; start += chunk) {
    const items = batch.flatMap((tokens, sequence): BatchItem[] =>
      tokens.length <= start
        ? []
        : [{ sequence, tokens: tokens.slice(start, start + chunk), start, logits: "all", stepwise: false }],
    );
    if (items.length === 0) return calls;
    calls.push({ items, rowCount: items.reduce((sum, { tokens }) => sum + tokens.length, 0), offsets });
  }
}
