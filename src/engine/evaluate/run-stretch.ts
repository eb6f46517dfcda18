import type { Tensor } from "onnxruntime-node";

import { planChains } from "../../chain/plan.ts";
import { ChainExecutor } from "../execute/chain-executor.ts";
import type { BatchItem } from "../execute/executor.ts";
import { type BlockedChain, partsBefore, stretchOf } from "./chain-stretch.ts";
import type { PartSessions, RecordedRows } from "./part-sessions.ts";
import { batchesOf, prefillCalls, type PrefillCall } from "./prefill-calls.ts";

export interface StretchRun {
  /** Blocks of the chain, [from, to). */
  from: number;
  to: number;
  /** Token ids of each sequence; they begin at position 0. */
  sequences: readonly (readonly number[])[];
  /** What came out of block `from` - 1 for the tokens of all sequences, one after another. Needed unless `from` is 0. */
  recorded?: RecordedRows | undefined;
  /** Rows of one prefill call: a sequence passes in the calls it would have when it is served. */
  prefillChunk: number;
  /** Give the rows of the last block alone. */
  lastOnly?: boolean;
  signal?: AbortSignal | undefined;
}

/** What came out of some of the sequences. */
export interface RanRows {
  /** Of the first token among the tokens of all sequences. */
  firstRow: number;
  rowCount: number;
  /** Per block of the stretch, or of its last, the rows; a head's are logits. */
  blocks: RecordedRows[];
}

/** Sends sequences through a stretch of a chain, batch after batch; who has seen enough may stop. */
export async function* runStretch(
  sessions: PartSessions,
  blocked: BlockedChain,
  run: StretchRun,
): AsyncGenerator<RanRows> {
  const stretch = stretchOf(blocked, run);
  const front = run.from === 0 ? 0 : 1;
  const all = Array.from({ length: run.to - run.from }, (_, at) => front - 1 + partsBefore(blocked, run.from, at + 1));
  const ends = run.lastOnly ? all.slice(-1) : all;
  const plan = planChains([stretch], { fuse: false });
  const watch = new WalkWatch();
  const given = await sessions.forPlan(plan, { recorded: run.recorded, onRun: (outputs) => watch.note(outputs) });
  const executor = await ChainExecutor.over(plan, sessions.source, { sessions: given, threads: sessions.threads });
  let firstRow = 0;
  try {
    for (const batch of batchesOf(run.sequences)) {
      const rowCount = batch.reduce((sum, tokens) => sum + tokens.length, 0);
      const blocks: RecordedRows[] = [];
      batch.forEach((tokens, at) => executor.open(at, { model: stretch.key, maxTokens: tokens.length }));
      for (const call of prefillCalls(batch, run.prefillChunk)) {
        run.signal?.throwIfAborted();
        watch.begin(call.rowCount);
        await executor.execute(run.from === 0 ? call.items : call.items.map((item) => byRow(item, call, firstRow)));
        ends.forEach((end, at) => {
          const { values, width } = watch.at(end);
          blocks[at] ??= { values: new Float32Array(rowCount * width), width };
          placeRows(blocks[at], values, call);
        });
      }
      batch.forEach((_, at) => executor.release(at));
      yield { firstRow, rowCount, blocks };
      firstRow += rowCount;
    }
  } finally {
    await executor.close();
  }
}

/** The item with the numbers of its recorded rows in place of its tokens. */
function byRow(item: BatchItem, { offsets }: PrefillCall, firstRow: number): BatchItem {
  const first = firstRow + offsets[item.sequence]! + item.start;
  return { ...item, tokens: item.tokens.map((_, at) => first + at) };
}

function placeRows(target: RecordedRows, values: Float32Array, { items, offsets }: PrefillCall): void {
  const { width } = target;
  let from = 0;
  for (const { sequence, start, tokens } of items) {
    target.values.set(values.subarray(from, from + tokens.length * width), (offsets[sequence]! + start) * width);
    from += tokens.length * width;
  }
}

/** Keeps what comes out of each part of one chain, in the order of the walk, during one step. */
class WalkWatch {
  #rowCount = 0;
  #seen = 0;
  #part = 0;
  #outputs: (RecordedRows | undefined)[] = [];

  begin(rowCount: number): void {
    this.#rowCount = rowCount;
    this.#seen = 0;
    this.#part = 0;
    this.#outputs = [];
  }

  /** A part runs once for all rows, or once per sequence where its kernels depend on the rows beside. */
  note(outputs: Record<string, Tensor>): void {
    const rows = Object.values(outputs)[0]!.dims[1]!;
    const output = outputs["hidden_out"] ?? outputs["logits"];
    if (output) {
      const width = output.dims[2]!;
      const kept = (this.#outputs[this.#part] ??= { values: new Float32Array(this.#rowCount * width), width });
      kept.values.set(output.data as Float32Array, this.#seen * width);
    }
    this.#seen += rows;
    if (this.#seen < this.#rowCount) return;
    this.#seen = 0;
    this.#part++;
  }

  at(part: number): RecordedRows {
    const output = this.#outputs[part];
    if (!output) throw new Error(`Part ${part} gave no hidden rows and no logits`);
    return output;
  }
}
