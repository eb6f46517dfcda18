import type { Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../../blocks/block.ts";
import { reasonOf } from "../../../support/reason.ts";
import { AttentionCores } from "../attention-core.ts";
import { rowsOf } from "../batch-rows.ts";
import { BatchWalker, type WalkingSequence } from "../batch-walker.ts";
import type { BatchItem, Share, SharedOut } from "../executor.ts";
import type { LoadablePlan } from "../ready-plan.ts";
import type { RowSharing } from "../row-sharing.ts";
import type { WalkStage } from "../walk-stages.ts";
import { divideBatch } from "./divide-batch.ts";
import { Lane } from "./lane.ts";
import { LaneChoice } from "./lane-choice.ts";
import { type ChainCost, chainCosts, runningCosts, type SequenceItems } from "./lane-cost.ts";
import type { LaneKey, LaneSegment } from "./lane-messages.ts";
import { Packer } from "./packer.ts";

type Rows = Record<string, Tensor>;
type SequenceOf = (sequence: number) => WalkingSequence;

/**
 * Lanes share a step's sequences out among threads that walk through it side by side, each with fewer of the machine's
 * threads per call, over the same packed weights. The first lane is the thread that this is called in.
 */
export class Lanes {
  /** How many there are to be, the first one included. */
  readonly planned: number;
  /** Each lane's. */
  readonly threads: number;
  /** Of what they run. */
  readonly packer = new Packer();
  readonly #cores: AttentionCores;
  /** null: nothing was there to be run yet. */
  #others: readonly Lane[] | null = null;
  #plan: LoadablePlan | null = null;
  #costs: readonly ChainCost[] = [];
  /** With all threads per call, and with a lane's. */
  #together: BatchWalker | null = null;
  #first: BatchWalker | null = null;
  readonly #choice = new LaneChoice();
  #batches = 0;
  #hasLeftOut = false;

  /** `threads`: of all lanes together. */
  constructor({ count, threads }: { count: number; threads: number }) {
    this.threads = Math.max(1, Math.floor(threads / count));
    this.#cores = new AttentionCores(this.threads);
    this.planned = count;
  }

  /** Those there are now: a lane whose thread ended is not made again. */
  get count(): number {
    return 1 + this.#living().length;
  }

  /** How many batches lanes were given. */
  get batches(): number {
    return this.#batches;
  }

  /** In all lanes but the first. Errors: ONNX Runtime's. */
  async open(segment: LaneSegment): Promise<void> {
    await Promise.all(this.#living().map(async (lane) => lane.open(segment)));
  }

  close(key: LaneKey): void {
    for (const lane of this.#living()) lane.close(key);
  }

  /** Such a segment runs as well, but who comes by it is not shared out. One is named: others are for the same reason mostly. */
  noteLeftOut(label: string, error: unknown): void {
    if (!this.#hasLeftOut) process.emitWarning(`not everything runs in lanes; ${label} does not: ${reasonOf(error)}`);
    this.#hasLeftOut = true;
  }

  /** Before anything is opened for a plan with these, and before it is adopted. Safe while shares are executed. */
  async load(cores: readonly CoreSpec[]): Promise<void> {
    if (cores.length === 0) return;
    this.#others ??= Array.from({ length: this.planned - 1 }, () => new Lane({ threads: this.threads }));
    await this.#cores.load(cores);
  }

  /** While no share is executed. */
  adopt(ready: LoadablePlan): void {
    const { plan, stages, rank, tables, sessions } = ready;
    const cores = plan.chains.map(({ chain }) => chain.cores);
    for (const lane of this.#living()) lane.adopt({ stages: stages.map(alone), rank, tables, cores });
    const run = async (segment: number, feeds: Rows): Promise<Rows> => sessions.runInLane(segment, feeds);
    const sharing = (segment: number): RowSharing => sessions.sharing(segment);
    this.#plan = ready;
    this.#costs = chainCosts(ready);
    this.#together = new BatchWalker(ready);
    this.#first = new BatchWalker({ stages, rank, tables, cores: this.#cores, sessions: { sharing, run } });
  }

  /** As Executor.shareOut; null: lanes cannot run it. */
  shareOut(items: BatchItem[], sequenceOf: SequenceOf): SharedOut | null {
    const sequences = this.#sequencesOf(items, sequenceOf);
    if (sequences === null) return null;
    const division = divideBatch(sequences, this.count);
    const rows = rowsOf(items);
    const costs = { together: runningCosts(sequences).at(-1)!, lanes: division.cost };
    const way = this.#choice.choose(rows, costs);
    const started = performance.now();
    let walked = 0;
    const counted = (own: BatchItem[], walk: Share["execute"]): Share => ({
      items: own,
      execute: async (next) => {
        const logits = await walk(next);
        walked += rowsOf(next);
        return logits;
      },
    });
    const shares =
      way === "together"
        ? [counted(items, async (next) => this.#together!.walk(next, sequenceOf))]
        : this.#walks(sequenceOf).flatMap((walk, lane) => {
            const own = division.groups[lane]?.flatMap((sequence) => sequence.items);
            return own ? [counted(own, walk)] : [];
          });
    const done = (): void => {
      const seconds = (performance.now() - started) / 1000;
      if (walked > 0) this.#choice.observe(rows, way, { cost: (costs[way] * walked) / rows, seconds });
    };
    return { shares, done };
  }

  async end(): Promise<void> {
    this.packer.end();
    await Promise.all(this.#living().map(async (lane) => lane.end()));
    await this.#cores.close();
  }

  /** In the order of their chains; null: lanes cannot run them, or there is nothing to share out. */
  #sequencesOf(items: BatchItem[], sequenceOf: SequenceOf): SequenceItems[] | null {
    if (this.count === 1) return null;
    const sequences = new Map<number, SequenceItems & { rank: number }>();
    for (const item of items) {
      const { chain } = sequenceOf(item.sequence);
      const known = sequences.get(item.sequence);
      if (known) known.items.push(item);
      else sequences.set(item.sequence, { items: [item], chain: this.#costs[chain]!, rank: this.#plan!.rank[chain]! });
    }
    const { sessions } = this.#plan!.sessions;
    const isOpen = ({ chain }: SequenceItems): boolean =>
      chain.uses.every(({ segment }) => sessions[segment]!.laneKey !== null);
    if (sequences.size < 2 || ![...sequences.values()].every(isOpen)) return null;
    return [...sequences.values()].toSorted((a, b) => a.rank - b.rank);
  }

  /** Per lane. */
  #walks(sequenceOf: SequenceOf): Share["execute"][] {
    const keys = this.#plan!.sessions.sessions.map(({ laneKey }) => laneKey);
    const walks = [
      async (items: BatchItem[]) => await this.#first!.walk(items, sequenceOf),
      ...this.#living().map((lane) => async (items: BatchItem[]) => await lane.run(items, { keys, sequenceOf })),
    ];
    return walks.map((walk) => async (items) => {
      this.#batches++;
      return await walk(items);
    });
  }

  #living(): Lane[] {
    return this.#others?.filter(({ isLost }) => !isLost) ?? [];
  }
}

/** What a walk looks at: not what the segment is made of. */
function alone({ segment, members }: WalkStage): WalkStage {
  return { segment: { ...segment, parts: [], adapters: segment.adapters.map(() => []) }, members };
}
