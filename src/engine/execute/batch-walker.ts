import { Tensor } from "onnxruntime-node";
import type { RotarySpec } from "../../blocks/block.ts";
import { ADAPTER_INPUT } from "../../chain/attach-factors.ts";
import type { Segment } from "../../chain/plan.ts";
import type { RotaryTable } from "../../chain/rotary-rows.ts";
import type { SequenceCache } from "../kv/sequence-cache.ts";
import type { AttentionCores } from "./attention-core.ts";
import { layOutBatch } from "./batch-layout.ts";
import { CoreQueue } from "./core-queue.ts";
import type { BatchItem } from "./executor.ts";
import { beginBetween, keepPartingRows } from "./partings.ts";
import { RotaryBatch } from "./rotary-batch.ts";
import { joinRanges, RowStore, SpareBuffers } from "./row-store.ts";
import type { SegmentSessions } from "./session-pool.ts";
import { adapterRows, handOutLogits, runsOf, standingBefore, type Standing } from "./standing.ts";
import { tokenInput, type TokenRows } from "./token-inputs.ts";
import type { WalkStage } from "./walk-stages.ts";

/** What a batch walks through, and what runs it there. */
export interface WalkPlan {
  stages: readonly WalkStage[];
  /** Per chain (batch-layout.ts). */
  rank: readonly number[];
  tables: ReadonlyMap<RotarySpec, RotaryTable>;
  sessions: Pick<SegmentSessions, "sharing" | "run">;
  cores: AttentionCores;
}

/** A sequence as a batch finds it: which chain it is of, and its keys and values, with room for the batch's tokens. */
export interface WalkingSequence {
  chain: number;
  cache: SequenceCache;
}

/** What flows between the segments of one step. */
interface StepRows extends TokenRows {
  values: RowStore;
  cores: CoreQueue;
  logits: Float32Array[];
}

/**
 * Walks a flat batch of all sequences of all chains through a plan, stage by stage: a segment runs once for every chain that
 * shares it, the attention core on each sequence's own cache.
 */
export class BatchWalker {
  readonly #plan: WalkPlan;
  readonly #spare = new SpareBuffers();

  constructor(plan: WalkPlan) {
    this.#plan = plan;
  }

  /** Appends the items' tokens to their caches; gives logits as `Executor.execute` does. */
  async walk(items: BatchItem[], sequenceOf: (sequence: number) => WalkingSequence): Promise<Float32Array[]> {
    const { rank, tables, stages, cores, sessions } = this.#plan;
    const batch = layOutBatch(items, (item) => sequenceOf(item.sequence).chain, rank);
    const step: StepRows = {
      values: new RowStore(batch.positions.length, this.#spare),
      cores: new CoreQueue(cores, (sequence) => sequenceOf(sequence).cache),
      ids: batch.ids,
      positions: BigInt64Array.from(batch.positions, BigInt),
      rotary: new RotaryBatch(batch.positions, tables),
      logits: items.map(() => new Float32Array(0)),
    };
    for (const placed of batch.placed) beginBetween(placed, stages, step.values);
    for (const stage of stages) {
      const standing = standingBefore(stage, batch.placed);
      // Segments that nobody comes by need not be loaded.
      if (standing.length === 0) continue;
      await step.cores.attendFor(standing, step.values);
      for (const one of standing) keepPartingRows(one, step.values);
      for (const together of runsOf(standing, sessions.sharing(stage.segment.id) !== null))
        await this.#runSegment(stage.segment, together, step);
    }
    cores.endStep();
    return step.logits;
  }

  async #runSegment(segment: Segment, standing: Standing[], step: StepRows): Promise<void> {
    const ranges = joinRanges(standing.map(({ rows }) => rows));
    const rowCount = ranges.reduce((sum, range) => sum + range.count, 0);
    const feeds: Record<string, Tensor> = {};
    for (const port of segment.inputs)
      feeds[port.name] =
        tokenInput(port, { standing, ranges, rowCount }, step) ??
        new Tensor("float32", step.values.take(port.name, port.width, ranges), [1, rowCount, port.width]);
    if (segment.adapters.length > 0) feeds[ADAPTER_INPUT] = new Tensor("int64", adapterRows(standing), [1, rowCount]);
    const outputs = await this.#plan.sessions.run(segment.id, feeds);

    for (const port of segment.outputs) {
      const rows = outputs[port.name]!.data as Float32Array;
      if (port.name === "hidden_out") step.values.put("hidden", port.width, ranges, rows);
      if (port.name.startsWith("~")) step.values.put(port.name, port.width, ranges, rows);
      if (port.name === "logits") handOutLogits(rows, port.width, { standing, logits: step.logits });
    }
    if (outputs["q"]) step.cores.put(outputs, standing);
  }
}
