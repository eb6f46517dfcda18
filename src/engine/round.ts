import { batchItem } from "./batch-item.ts";
import { asEngineError } from "./engine-error.ts";
import { rowsOf } from "./execute/batch-rows.ts";
import { type Executor, PartlyFailed, type Share, type SharedOut } from "./execute/executor.ts";
import type { Logits } from "./sample-work.ts";
import type { Work } from "./schedule/next-work.ts";

/**
 * When any share has gone so far, or cannot go on, all end their round with the batch that they are in: the sequences are then
 * shared out anew. So a share waits for one batch of others at most, once in so many.
 */
const MOST_BATCHES = 32;

export interface RoundParts {
  executor: Executor;
  /** The logits of some work are here, whose execution was `started` then (performance.now). */
  settle: (work: Work[], logits: readonly Logits[], started: number) => void;
  /**
   * What the sequences of this settled work go on with while others still run, in a `portion` of a step's rows; null: something
   * else is to be decided first.
   */
  goOn: (work: Work[], portion: number) => Work[] | null;
}

/**
 * Executes a step's work and settles it. Where the executor shares it out, each share goes on with its sequences by itself, so
 * that none waits for another after every token. Never fails: where the executor does, the work's logits are the error.
 */
export async function runRound(work: Work[], { executor, settle, goOn }: RoundParts): Promise<void> {
  const workOf = new Map(work.map((one) => [batchItem(one), one]));
  const items = [...workOf.keys()];
  const { shares, done } = executor.shareOut?.(items) ?? inOneBatch(executor, items);
  let isOver = shares.length === 1;
  const walk = async (share: Share): Promise<void> => {
    let batch = share.items;
    let own: Work[] | null = batch.map((item) => workOf.get(item)!);
    const portion = rowsOf(batch) / rowsOf(items);
    for (let batches = 1; own !== null; batches++) {
      const started = performance.now();
      const logits = await logitsOf(share, batch);
      settle(own, logits, started);
      isOver ||= batches === MOST_BATCHES;
      own = isOver ? null : goOn(own, portion);
      isOver ||= own === null;
      batch = own?.map(batchItem) ?? [];
    }
  };
  await Promise.all(shares.map(walk));
  done();
}

function inOneBatch(executor: Executor, items: Share["items"]): SharedOut {
  return { shares: [{ items, execute: async (batch) => executor.execute(batch) }], done: () => {} };
}

/** Per item. Where the share failed all have its error, because their states are then unknown. */
async function logitsOf(share: Share, items: Share["items"]): Promise<readonly Logits[]> {
  try {
    return await share.execute(items);
  } catch (error) {
    return error instanceof PartlyFailed ? error.results : items.map(() => asEngineError(error));
  }
}
