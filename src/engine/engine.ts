import { setImmediate as nextTurn } from "node:timers/promises";
import { type Clock, systemClock } from "../support/clock.ts";
import { BlockllmError } from "../support/errors.ts";
import type { EngineConfig } from "./engine-config.ts";
import { openSequence, writePieces } from "./begin-sequence.ts";
import { asEngineError, deadlineExceeded, loadFailed, lossIn } from "./engine-error.ts";
import type { Executor, Needs } from "./execute/executor.ts";
import type { NextModels } from "./load-models.ts";
import type { EndReason, EngineEvent, EngineRequest, SampledToken } from "./request.ts";
import type { Work } from "./schedule/next-work.ts";
import { ownerLabel, type PrefixOwner } from "./kv/prefix-keys.ts";
import { MemoryBudget } from "./memory/memory-budget.ts";
import { Residency } from "./memory/residency.ts";
import { SetAside } from "./memory/set-aside.ts";
import { runRound } from "./round.ts";
import { type Logits, sampleWork, type Outcome } from "./sample-work.ts";
import type { Admission } from "./schedule/schedule.ts";
import { Scheduler } from "./schedule/scheduler.ts";
import { Sequence, type ScheduledModel } from "./sequence.ts";
import { countDuration } from "./durations.ts";
import { countWork, newCounters, type EngineStats } from "./stats.ts";
import { noteWaits } from "./waits.ts";

export interface EngineParts {
  executor: Executor;
  models: readonly ScheduledModel[];
  config: EngineConfig;
  /** Called for every event of every request, in order. */
  report: (id: number, event: EngineEvent) => void;
  /** Called once a request no longer waits for its first step, or ended before. */
  onLeftQueue?: (id: number) => void;
  clock?: Clock;
}

type PendingChange = NextModels & { graceSeconds: number; resolve: () => void };

/** The loop: requests come in by `submit`, `step` moves all of them on, events go out by `report`. */
export class Engine {
  readonly #parts: EngineParts;
  #models: readonly ScheduledModel[];
  #needs: Needs;
  #next: PendingChange | null = null;
  #prepared: () => void = () => {};
  /** Key of a model that is not served any more → when its last sequences are cancelled, ms since 1970. */
  readonly #retiring = new Map<string, number>();
  readonly #clock: Clock;
  readonly #budget: MemoryBudget;
  readonly #residency: Residency;
  readonly #aside: SetAside;
  readonly #scheduler: Scheduler;
  readonly #sequences = new Map<number, Sequence>();
  readonly #counters = newCounters();
  #closed = false;
  #wake: () => void = () => {};

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#models = parts.models;
    this.#needs = parts.executor.needs;
    this.#clock = parts.clock ?? systemClock;
    this.#budget = new MemoryBudget(parts.config);
    this.#residency = new Residency(this.#budget, this.#needs);
    this.#aside = new SetAside(parts.config, parts.executor);
    const shared = { budget: this.#budget, residency: this.#residency, aside: this.#aside };
    this.#scheduler = new Scheduler(parts.config, shared);
  }

  /** Loads models before anyone asks, as many as fit and leave room for keys and values; the rest on demand. False: stopped. */
  async preload(): Promise<boolean> {
    this.#residency.expectWhatFits(this.#models.map(({ key }) => key));
    while (this.#residency.hasDue && !this.#closed) {
      const failure = await this.#residency.loadNext();
      if (failure) throw failure.error;
    }
    if (!this.#closed) await this.#useIdleTime();
    return !this.#closed;
  }

  /** `id` is unique and grows; the request was checked (check-request.ts). A full queue ends it with an error event. */
  submit(id: number, request: EngineRequest): void {
    const model = this.#models.find(({ name }) => name === request.model);
    if (!model) return this.#refuse(id, request);
    const sequence = new Sequence(id, request, { model, now: this.#clock.now() });
    this.#sequences.set(id, sequence);
    try {
      this.#scheduler.add(sequence);
      this.#wake();
    } catch (error) {
      this.#end(sequence, "error", asEngineError(error));
    }
  }

  /** Before `adopt`: loads what running sequences will need of other models, if there is room for that. */
  async prepare({ needs }: NextModels): Promise<void> {
    this.#residency.prepare(needs);
    if (!this.#residency.isPreparing) return;
    this.#wake();
    await new Promise<void>((resolve) => (this.#prepared = resolve));
  }

  /**
   * Serves other models from the next step on: requests that come from now on, before that step too, are for them.
   * Sequences of models that are not served any more end as they began, or are cancelled after `graceSeconds`.
   */
  async adopt(next: NextModels, graceSeconds: number): Promise<void> {
    if (this.#next) throw new Error("The models are being changed already");
    this.#models = next.models;
    await new Promise<void>((resolve) => {
      this.#next = { ...next, graceSeconds, resolve };
      this.#wake();
    });
  }

  /** Gives up the prompts that are kept of one tenant or group; how many bytes that were. */
  forgetPrefixes(owner: PrefixOwner): number {
    return this.#scheduler.prefixes.forget(ownerLabel(owner));
  }

  /** Keys of the models that sequences still use. */
  liveModels(): ReadonlySet<string> {
    return new Set([...this.#sequences.values()].map(({ model }) => model.key));
  }

  /** Ends a request at the next step; unknown or ended ones are ignored. */
  cancel(id: number): void {
    const sequence = this.#sequences.get(id);
    if (sequence) sequence.cancelled = true;
  }

  get isIdle(): boolean {
    return this.#sequences.size === 0;
  }

  /** Steps while there is work and sleeps while there is none, until `stop`. */
  async run(): Promise<void> {
    while (!this.#closed) {
      if (this.isIdle && !this.#next && !this.#residency.hasDue) {
        this.checkIntegrity();
        await this.#useIdleTime();
        if (!this.isIdle || this.#next || this.#closed) continue;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      } else {
        await this.step();
      }
      await nextTurn();
    }
  }

  async #useIdleTime(): Promise<void> {
    const { executor } = this.#parts;
    await executor.whileIdle?.(this.#budget.free("weights"));
    this.#residency.keepExtras(executor.extras ?? []);
  }

  async step(): Promise<void> {
    const started = performance.now();
    const now = this.#clock.now();
    await this.#changeModels(now);
    this.#endOverdue(now);
    const schedule = this.#scheduler.schedule(now);
    const { work, yielded, admitted } = schedule;
    noteWaits(schedule, now);
    this.#takeState(yielded);
    await this.#residency.settle();
    await this.#run(this.#begin(work, admitted));
    await this.#load((performance.now() - started) / 1000);
  }

  stats(): EngineStats {
    const { executor } = this.#parts;
    return {
      ...structuredClone(this.#counters),
      ...this.#scheduler.stats,
      stateBytes: executor.stateBytes(),
      laneBatches: executor.laneBatches ?? 0,
      deviceLosses: executor.deviceLosses ?? 0,
      memoryBytesLimit: this.#budget.totalBytes,
      weightBytes: this.#budget.taken("weights"),
      ...this.#residency.stats,
      ...this.#aside.stats,
    };
  }

  /** Throws if pages leaked or the executor holds more than was claimed. */
  checkIntegrity(): void {
    this.#scheduler.checkIntegrity();
    const { stateBytes, kvBytes } = this.stats();
    if (stateBytes > kvBytes) throw new Error(`Sequences hold ${stateBytes} bytes of state, but claimed ${kvBytes}`);
  }

  /** Makes `preload` return before all is loaded, and `run` after the step it is in. */
  stop(): void {
    this.#closed = true;
    this.#wake();
  }

  /** Ends everything that is left with reason `cancelled` and frees the executor. Only when `run` has returned. */
  async close(): Promise<void> {
    for (const sequence of this.#sequences.values()) this.#end(sequence, "cancelled");
    this.#aside.close();
    await this.#parts.executor.close();
  }

  /** Between steps. */
  async #changeModels(now: number): Promise<void> {
    // What was to be loaded ahead is there, or did not fit.
    if (!this.#residency.isPreparing) this.#prepared();
    if (this.#next) {
      const { models, needs, stretches, commit, graceSeconds, resolve } = this.#next;
      this.#next = null;
      await commit();
      for (const sequence of this.#sequences.values()) sequence.replan(stretches.get(sequence.model.key) ?? []);
      this.#needs = needs;
      const served = new Set(models.map(({ key }) => key));
      for (const key of served) this.#retiring.delete(key);
      for (const key of this.liveModels())
        if (!served.has(key)) this.#retiring.set(key, this.#retiring.get(key) ?? now + graceSeconds * 1000);
      this.#forgetUnused();
      this.#residency.expectWhatFits(models.map(({ key }) => key));
      resolve();
    }
    const live = this.#retiring.size === 0 ? null : this.liveModels();
    const ended = [...this.#retiring.keys()].filter((key) => !live!.has(key));
    for (const key of ended) this.#retiring.delete(key);
    if (ended.length > 0) this.#forgetUnused();
  }

  /** Weights that only models need which are neither served nor used are let go. */
  #forgetUnused(): void {
    const used = new Set([...this.#models.map(({ key }) => key), ...this.liveModels()]);
    this.#residency.adopt(new Map([...this.#needs].filter(([key]) => used.has(key))));
  }

  /** The model was taken away while the request was on its way. */
  #refuse(id: number, { model, tokens }: EngineRequest): void {
    const error = new BlockllmError("model_not_found", `the engine does not serve ${model} any more`);
    this.#counters.ended.error++;
    const end = { reason: "error", error, promptTokens: tokens.length, completionTokens: 0 } as const;
    this.#parts.report(id, { type: "request-end", ...end });
  }

  /** Segments that are asked for, for as long as the step took: others who run are slowed to half, not stopped. */
  async #load(seconds: number): Promise<void> {
    const until = performance.now() + seconds * 1000;
    while (this.#residency.hasDue) {
      const failure = await this.#residency.loadNext();
      if (failure) this.#endWithout(failure);
      if (performance.now() >= until) return;
    }
  }

  /** Where a device was lost, keys and values of all who ran on it are gone, also of those who had no turn in this step. */
  #endLost(logits: readonly Logits[]): void {
    const error = lossIn(logits);
    if (!error) return;
    for (const sequence of this.#scheduler.running)
      if (sequence.cached > 0 && sequence.model.byCapacity) this.#end(sequence, "error", error);
  }

  #endWithout({ failed, error }: { failed: ReadonlySet<string>; error: unknown }): void {
    for (const sequence of this.#scheduler.running)
      if (failed.has(sequence.model.key)) this.#end(sequence, "error", loadFailed(error));
  }

  #endOverdue(now: number): void {
    for (const sequence of this.#sequences.values()) {
      if (sequence.cancelled) this.#end(sequence, "cancelled");
      else if (now >= (this.#retiring.get(sequence.model.key) ?? Infinity)) this.#end(sequence, "cancelled");
      else if (sequence.deadline > now) continue;
      else if (sequence.completionTokens > 0) this.#end(sequence, "deadline");
      else this.#end(sequence, "error", deadlineExceeded(sequence));
    }
  }

  #takeState(yielded: Sequence[]): void {
    for (const { id } of yielded) this.#parts.executor.release(id);
    this.#counters.yields += yielded.length;
  }

  /** Opens who was admitted. Gives the work of all but those who could not begin as was planned. */
  #begin(work: Work[], admitted: Admission[]): Work[] {
    const late = new Set<Sequence>();
    const attempt = (sequence: Sequence, begin: () => boolean | void): void => {
      try {
        if (begin() === false) late.add(sequence);
      } catch (error) {
        late.add(sequence);
        this.#end(sequence, "error", asEngineError(error));
      }
    };
    const memory = { executor: this.#parts.executor, aside: this.#aside };
    for (const one of admitted) {
      this.#parts.onLeftQueue?.(one.sequence.id);
      attempt(one.sequence, () => openSequence(one, memory));
      if (!late.has(one.sequence)) this.#counters.reusedTokens += one.prefix.length * one.sequence.model.prefillChunk;
    }
    for (const { sequence, start, shared } of work)
      if (!late.has(sequence)) attempt(sequence, () => writePieces(sequence, { start, pieces: shared }, memory));
    return work.filter(({ sequence }) => !late.has(sequence));
  }

  async #run(work: Work[]): Promise<void> {
    if (work.length === 0) return;
    const started = performance.now();
    const count = new Set(work.map(({ sequence }) => sequence)).size;
    let tokens = 0;
    await runRound(work, {
      executor: this.#parts.executor,
      settle: (done, logits, began) => {
        if (!logits.some((one) => one instanceof BlockllmError)) {
          this.#scheduler.drafter.observe(done, (performance.now() - began) / 1000);
          tokens += done.reduce((sum, one) => sum + one.count, 0);
        }
        const outcomes = done.map((one, index) => sampleWork(one, logits[index]!));
        this.#settle(done, outcomes);
        this.#endLost(logits);
        countDuration(this.#counters.steps, (performance.now() - began) / 1000);
      },
      goOn: (done, portion) => (this.#mayGoOn(count) ? this.#scheduler.goOn(done, portion) : null),
    });
    if (tokens > 0) this.#aside.rates.observeStep(tokens, (performance.now() - started) / 1000);
  }

  /** Is there nothing to be decided about `count` sequences that are in a round, and nobody else? */
  #mayGoOn(count: number): boolean {
    const now = this.#clock.now();
    const mayStay = ({ cancelled, deadline }: Sequence): boolean => !cancelled && deadline > now;
    const isAsked = this.#closed || this.#next !== null || this.#residency.hasDue || this.#retiring.size > 0;
    return !isAsked && this.#sequences.size === count && [...this.#sequences.values()].every(mayStay);
  }

  #settle(work: Work[], outcomes: Outcome[]): void {
    for (const [index, { sequence, start, count, draft }] of work.entries()) {
      const { sampled, error } = outcomes[index]!;
      // An earlier chunk of the same prompt failed.
      if (!this.#sequences.has(sequence.id)) continue;
      const accepted = Math.max(0, sampled.length - 1);
      countWork(this.#counters, work[index]!, accepted);
      sequence.advance(start + count + accepted);
      if (!error) {
        const range = { from: start, to: start + count };
        this.#scheduler.keepPrefix(work[index]!, ({ layers }) =>
          this.#parts.executor.readState(sequence.id, { ...range, layers }),
        );
      }
      for (const token of sampled) if (this.#sequences.has(sequence.id)) this.#append(sequence, token);
      if (!this.#sequences.has(sequence.id)) continue;
      if (error) this.#end(sequence, "error", error);
      else if (draft.length > 0) this.#settleDraft(sequence, draft.length, accepted);
    }
  }

  /** The rows of what was not accepted are forgotten: from here on it is as if they had never been. */
  #settleDraft(sequence: Sequence, drafted: number, accepted: number): void {
    sequence.drafting.record(drafted, accepted);
    if (accepted === drafted) return;
    this.#parts.executor.truncate(sequence.id, sequence.cached);
    this.#scheduler.trim(sequence);
  }

  #append(sequence: Sequence, sampled: SampledToken): void {
    if (sequence.cancelled) return this.#end(sequence, "cancelled");
    if (sequence.stopTokens.has(sampled.token)) return this.#end(sequence, "stop");
    sequence.tokens.push(sampled.token);
    this.#counters.generatedTokens++;
    const waited = sequence.completionTokens === 1 && { waited: sequence.waits.until(this.#clock.now()) };
    this.#parts.report(sequence.id, { type: "token-delta", ...sampled, ...waited });
    if (sequence.tokens.length >= sequence.maxLength) this.#end(sequence, "length");
  }

  #end(sequence: Sequence, reason: EndReason, error?: BlockllmError): void {
    this.#sequences.delete(sequence.id);
    this.#scheduler.remove(sequence);
    this.#parts.executor.release(sequence.id);
    this.#counters.ended[reason]++;
    const { promptLength: promptTokens, completionTokens, reused } = sequence;
    this.#parts.report(sequence.id, {
      type: "request-end",
      reason,
      ...(error && { error }),
      promptTokens,
      completionTokens,
      ...(reused > 0 && { reusedTokens: reused }),
      waited: sequence.waits.until(this.#clock.now()),
    });
  }
}
