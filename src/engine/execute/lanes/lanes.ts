import type { Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../../blocks/block.ts";
import { reasonOf } from "../../../support/reason.ts";
import { AttentionCores } from "../attention-core.ts";
import { BatchWalker, type WalkingSequence } from "../batch-walker.ts";
import type { BatchItem } from "../executor.ts";
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
  #steps = 0;
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

  /** That were walked in lanes. */
  get steps(): number {
    return this.#steps;
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

  /** Before anything is opened for a plan with these, and before it is adopted. Safe beside `walk`. */
  async load(cores: readonly CoreSpec[]): Promise<void> {
    if (cores.length === 0) return;
    this.#others ??= Array.from({ length: this.planned - 1 }, () => new Lane({ threads: this.threads }));
    await this.#cores.load(cores);
  }

  /** Between two steps. */
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

  /** As BatchWalker.walk, whichever way is faster. Error: that of the first lane that failed, when all are done. */
  async walk(items: BatchItem[], sequenceOf: SequenceOf): Promise<Float32Array[]> {
    const sequences = this.#sequencesOf(items, sequenceOf);
    if (sequences === null) return await this.#together!.walk(items, sequenceOf);
    const division = divideBatch(sequences, this.count);
    const rows = items.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const costs = { together: runningCosts(sequences).at(-1)!, lanes: division.cost };
    const way = this.#choice.choose(rows, costs);
    const started = performance.now();
    const logits =
      way === "together"
        ? await this.#together!.walk(items, sequenceOf)
        : await this.#walkInLanes(items, { groups: division.groups, sequenceOf });
    this.#choice.observe(rows, way, { cost: costs[way], seconds: (performance.now() - started) / 1000 });
    return logits;
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

  async #walkInLanes(
    items: BatchItem[],
    { groups, sequenceOf }: { groups: SequenceItems[][]; sequenceOf: SequenceOf },
  ): Promise<Float32Array[]> {
    const [first, ...others] = groups.map((group) => group.flatMap((sequence) => sequence.items)) as [
      BatchItem[],
      ...BatchItem[][],
    ];
    this.#steps++;
    const living = this.#living();
    const keys = this.#plan!.sessions.sessions.map(({ laneKey }) => laneKey);
    const away = others.map(async (own, at) => living[at]!.run(own, { keys, sequenceOf }));
    const done = await Promise.allSettled([this.#first!.walk(first, sequenceOf), ...away]);
    const logits = new Map<BatchItem, Float32Array>();
    for (const [lane, own] of [first, ...others].entries()) {
      const one = done[lane]!;
      if (one.status === "rejected") throw one.reason;
      own.forEach((item, at) => logits.set(item, one.value[at]!));
    }
    return items.map((item) => logits.get(item)!);
  }

  #living(): Lane[] {
    return this.#others?.filter(({ isLost }) => !isLost) ?? [];
  }
}

/** What a walk looks at: not what the segment is made of. */
function alone({ segment, members }: WalkStage): WalkStage {
  return { segment: { ...segment, parts: [], adapters: segment.adapters.map(() => []) }, members };
}
