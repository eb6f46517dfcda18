import type { RotarySpec } from "../../blocks/block.ts";
import type { BlockChain } from "../../chain/chain.ts";
import type { Plan, Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { SequenceCache } from "../kv/sequence-cache.ts";
import { AttentionCores } from "./attention-core.ts";
import { BatchWalker, type WalkingSequence } from "./batch-walker.ts";
import type { BatchItem, Executor, Loadable, Needs, Share, SharedOut, StateRange } from "./executor.ts";
import type { Lanes } from "./lanes/lanes.ts";
import { readyPlan, type LoadablePlan, type ReadyPlan } from "./ready-plan.ts";
import { rotaryRows, type RotaryRows } from "../../chain/rotary-rows.ts";
import { SessionPool, type SegmentSessions } from "./session-pool.ts";
import type { StageMember } from "./walk-stages.ts";
import type { SoloSession } from "./solo-session.ts";
import { soloRows, SoloSessions } from "./solo-sessions.ts";

/** Sequences of all chains of a plan on this machine: batches walk through its segments (batch-walker.ts). */
export class ChainExecutor implements Executor {
  #ready: ReadyPlan;
  #walker: BatchWalker;
  #solo: SoloSessions | null;
  readonly #sequences = new Map<number, { model: string; cache: SequenceCache }>();

  readonly #lanes: Lanes | null;
  readonly #walking = (sequence: number): WalkingSequence => {
    const { model, cache } = this.#sequences.get(sequence)!;
    return { chain: this.#ready.chainOf.get(model)!, cache };
  };

  /** `lanes`: they run the plan's sessions too. */
  constructor(ready: ReadyPlan, lanes: Lanes | null = null) {
    this.#ready = ready;
    this.#lanes = lanes;
    this.#walker = new BatchWalker(ready);
    this.#solo = soloSessions(ready);
  }

  /** Loads every segment. Errors: as SessionPool.load. */
  static async load(plan: Plan, source: BlockSource, { threads }: { threads: number }): Promise<ChainExecutor> {
    const sessions = await SessionPool.load(plan.segments, source, threads);
    return await ChainExecutor.over(plan, source, { sessions, threads });
  }

  /** Runs the segments with sessions that are loaded already; closes them when it is closed. */
  static async over(
    plan: Plan,
    source: BlockSource,
    { sessions, threads }: { sessions: SegmentSessions; threads: number },
  ): Promise<ChainExecutor> {
    return new ChainExecutor(await readyPlan(plan, { source, sessions, cores: new AttentionCores(threads) }));
  }

  /** Of a LoadablePlan: its sessions. Of one whose sessions were given: nothing. */
  get needs(): Needs {
    return "needs" in this.#ready ? (this.#ready as LoadablePlan).needs : new Map();
  }

  /** A session for decoding alone. */
  get extras(): readonly Loadable[] {
    return this.#solo?.loaded ?? [];
  }

  get laneBatches(): number {
    return this.#lanes?.batches ?? 0;
  }

  /** Goes on by another plan, between two batches. It must have the models of all sequences; their caches stay. */
  async adopt(ready: ReadyPlan): Promise<void> {
    await this.#solo?.close();
    this.#ready = ready;
    this.#walker = new BatchWalker(ready);
    this.#solo = soloSessions(ready);
  }

  open(sequence: number, { model, maxTokens }: { model: string; maxTokens: number }): void {
    const cache = new SequenceCache(this.#chainOf(model).cores, maxTokens);
    this.#sequences.set(sequence, { model, cache });
  }

  readState(sequence: number, range: StateRange): Float32Array {
    return this.#sequences.get(sequence)!.cache.read(range);
  }

  writeState(sequence: number, range: StateRange, state: Float32Array): void {
    const { cache } = this.#sequences.get(sequence)!;
    cache.reserve(range.to);
    cache.write(range, state);
  }

  truncate(sequence: number, tokens: number): void {
    this.#sequences.get(sequence)!.cache.truncate(tokens);
  }

  release(sequence: number): void {
    this.#sequences.get(sequence)?.cache.release();
    this.#sequences.delete(sequence);
  }

  stateBytes(): number {
    return [...this.#sequences.values()].reduce((sum, { cache }) => sum + cache.byteLength, 0);
  }

  async whileIdle(spareBytes: number): Promise<void> {
    await this.#solo?.whileIdle(spareBytes);
  }

  async execute(items: BatchItem[]): Promise<Float32Array[]> {
    const [first, ...others] = items;
    if (first && others.length === 0 && first.tokens.length === 1 && first.start > 0 && first.logits !== "none") {
      const session = this.#solo?.take(this.#chainOf(this.#sequences.get(first.sequence)!.model));
      if (session) return [await this.#runAlone(first, session)];
    }
    this.#reserve(items);
    return await this.#walker.walk(items, this.#walking);
  }

  shareOut(items: BatchItem[]): SharedOut | null {
    const out = this.#lanes?.shareOut(items, this.#walking);
    if (!out) return null;
    const shares = out.shares.map((share): Share => ({
      ...share,
      execute: async (next) => {
        this.#reserve(next);
        return await share.execute(next);
      },
    }));
    return { ...out, shares };
  }

  #reserve(items: readonly BatchItem[]): void {
    for (const item of items) this.#sequences.get(item.sequence)!.cache.reserve(item.start + item.tokens.length);
  }

  async #runAlone({ sequence, start, tokens: [token] }: BatchItem, session: SoloSession): Promise<Float32Array> {
    const { cache } = this.#sequences.get(sequence)!;
    cache.reserve(start + 1);
    const rotary = (spec: RotarySpec): RotaryRows => rotaryRows(spec, [start], this.#ready.tables.get(spec) ?? null);
    return await session.run({ token: token!, position: start, cache, rotaryRows: rotary });
  }

  async close(): Promise<void> {
    for (const sequence of this.#sequences.keys()) this.release(sequence);
    await this.#solo?.close();
    await this.#lanes?.end();
    await this.#ready.sessions.close();
    await this.#ready.cores.close();
  }

  #chainOf(model: string): BlockChain {
    const index = this.#ready.chainOf.get(model);
    if (index === undefined) throw new Error(`No chain of the plan is called ${model}`);
    return this.#ready.plan.chains[index]!.chain;
  }
}

/** Where a plan has one chain only, that chain may have its session before it was seen alone. */
function soloSessions({ plan, stages, solo, sessions: parts }: ReadyPlan): SoloSessions | null {
  if (!solo) return null;
  const stagesOf = (chain: BlockChain): { segment: Segment; member: StageMember }[] => {
    const index = plan.chains.findIndex((planned) => planned.chain === chain);
    return stages.flatMap(({ segment, members }) => {
      const member = members.get(index);
      return member ? [{ segment, member }] : [];
    });
  };
  const sessions = new SoloSessions(solo.source, {
    threads: solo.threads,
    rotationsOf: (chain) => [...new Set(stagesOf(chain).flatMap(({ member }) => member.rotary ?? []))],
    rowsOf: (chain) => soloRows(stagesOf(chain).map(({ segment }) => parts.sharing(segment.id))),
  });
  const [only, ...others] = plan.chains;
  if (only && others.length === 0) sessions.expect(only.chain);
  return sessions;
}
