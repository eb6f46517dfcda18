import { BlockllmError } from "../../support/errors.ts";
import type { EngineConfig } from "../engine-config.ts";
import { PageLedger, type PageClaim } from "../kv/page-ledger.ts";
import type { Stretch } from "../../chain/stretches.ts";
import { PrefixCache } from "../kv/prefix-cache.ts";
import { ownerLabel } from "../kv/prefix-keys.ts";
import { joinPiece, pieceBytesPerToken } from "../kv/stretch-state.ts";
import type { MemoryBudget } from "../memory/memory-budget.ts";
import type { Residency } from "../memory/residency.ts";
import type { SetAside } from "../memory/set-aside.ts";
import type { Sequence } from "../sequence.ts";
import { Drafter } from "../speculate/drafter.ts";
import { LoadPatience } from "./load-patience.ts";
import { firstToYield } from "./first-to-yield.ts";
import { isDecode, nextWork, withChunksBehind, type Work } from "./next-work.ts";
import { rankOf } from "./priority.ts";
import type { Admission, Schedule } from "./schedule.ts";
import { TokenCounters } from "./token-counters.ts";
import { inTurns } from "./turns.ts";

/** What the scheduler divides. */
export interface SharedMemory {
  budget: MemoryBudget;
  residency: Residency;
  aside: SetAside;
}

/** Who runs does not give way to a model that waits before so many tokens of it are new: what is replayed is no progress. */
const LEAST_TURN = 16;

type Lists = Pick<Schedule, "admitted" | "yielded">;

/**
 * Two queues over one memory budget: sequences wait until their model and their tokens have room, then run until they
 * end or yield. One that runs while its model is still being loaded has no work.
 */
export class Scheduler {
  readonly ledger: PageLedger;
  readonly prefixes: PrefixCache;
  readonly drafter: Drafter;
  readonly #config: EngineConfig;
  readonly #budget: MemoryBudget;
  readonly #residency: Residency;
  readonly #aside: SetAside;
  readonly #patience = new LoadPatience();
  readonly #counters = new TokenCounters();
  readonly #waiting = new Set<Sequence>();
  readonly #running = new Set<Sequence>();

  constructor(config: EngineConfig, { budget, residency, aside }: SharedMemory) {
    this.#config = config;
    this.#budget = budget;
    this.#residency = residency;
    this.#aside = aside;
    this.ledger = new PageLedger(budget);
    this.prefixes = new PrefixCache(this.ledger);
    this.drafter = new Drafter(config, this.ledger);
  }

  get waiting(): ReadonlySet<Sequence> {
    return this.#waiting;
  }

  get running(): ReadonlySet<Sequence> {
    return this.#running;
  }

  get stats(): Record<"queued" | "running" | "kvBytes" | "kvBytesLimit" | "prefixBytes", number> {
    const prefixBytes = this.prefixes.claimedBytes;
    return {
      queued: this.#waiting.size,
      running: this.#running.size,
      kvBytes: this.#budget.taken("kv") - prefixBytes,
      kvBytesLimit: this.#budget.kvLimitBytes,
      prefixBytes,
    };
  }

  add(sequence: Sequence): void {
    // Who had to yield waits too, but holds no place: it was taken from those who had none yet (waiting-room.ts).
    const unbegun = [...this.#waiting].filter(({ computed }) => computed === 0).length;
    if (unbegun >= this.#config.maxQueue) {
      throw new BlockllmError("queue_full", `${unbegun} requests are waiting, the limit is ${this.#config.maxQueue}`, {
        hint: "try again later, or start with a higher --max-queue",
      });
    }
    const active = new Set([...this.#waiting, ...this.#running].map(({ tenant }) => tenant));
    this.#counters.enter(sequence.tenant, { active, equals: this.#tenantsOfRank(sequence.rank) });
    this.#waiting.add(sequence);
  }

  remove(sequence: Sequence): void {
    this.#aside.drop(sequence.id);
    this.#leave(sequence);
  }

  #leave(sequence: Sequence): void {
    this.#waiting.delete(sequence);
    if (this.#running.delete(sequence)) this.#residency.letGo(sequence.model.key);
    this.ledger.release(sequence.id);
  }

  /**
   * Decodes first, then prefill chunks within the token budget, then drafts in what is left of it. All pages are claimed.
   * `now` in ms since 1970.
   */
  schedule(now: number): Schedule {
    const yielded: Sequence[] = [];
    const admitted: Admission[] = [];
    this.#age(now);
    const wanted = this.#wanted();
    this.#patience.begin(now, (model) => wanted.has(model) && !this.#residency.isReady(model));
    this.#claimWeights(yielded);
    const decodes = this.#pickDecodes(yielded);
    const prefills = this.#pickPrefills(this.#config.maxBatchTokens - decodes.length, { admitted, yielded });
    // A better class may have taken a decode's place.
    const picked = [...decodes, ...prefills].filter((sequence) => this.#running.has(sequence));
    const first = picked.map((sequence) => nextWork(sequence));
    const work = withChunksBehind(first, this.#rowsLeft(first));
    for (const one of work) one.shared = this.#lookUpShared(one);
    this.#complete(work, this.#rowsLeft(work));
    return { work, yielded, admitted };
  }

  /**
   * Between two calls of `schedule`: the next decodes of who did some work, while who else runs still does. Their rows are at
   * most a `portion` of a step's. Null: someone waits, not all have a decode next, or it takes memory that is not free.
   */
  goOn(done: readonly Work[], portion: number): Work[] | null {
    const sequences = [...new Set(done.map(({ sequence }) => sequence))];
    const canGoOn = (sequence: Sequence): boolean => this.#running.has(sequence) && isDecode(sequence);
    if (this.#waiting.size > 0 || !sequences.every(canGoOn)) return null;
    const claims = sequences.map((sequence) => sequence.claimFor(sequence.tokens.length));
    const missing = claims.reduce((sum, claim) => sum + this.ledger.missingBytes(claim), 0);
    if (missing > Math.min(this.ledger.freeBytes, this.#budget.free("weights"))) return null;
    for (const claim of claims) this.ledger.claim(claim);
    const work = sequences.map((sequence) => nextWork(sequence));
    this.#complete(work, Math.floor(portion * this.#config.maxBatchTokens) - work.length);
    return work;
  }

  /** Drafts in `rows` that are left, and what all of it costs its tenants. */
  #complete(work: readonly Work[], rows: number): void {
    this.drafter.addDrafts(work, rows);
    for (const { sequence, start, count, draft } of work) {
      const fresh = Math.max(0, start + count - Math.max(start, sequence.computed));
      this.#counters.charge(sequence.tenant, (fresh + draft.length) / sequence.policy.weight);
    }
  }

  /** Pages that a refused draft had are free again. */
  trim(sequence: Sequence): void {
    this.ledger.trim(sequence.claimFor(sequence.tokens.length));
  }

  /**
   * After its work: whole chunks of prompts stay cached for those that begin alike, a piece per stretch. `read` copies
   * keys and values.
   */
  keepPrefix(work: Work, read: (stretch: Stretch) => Float32Array): void {
    const keys = this.#chunkKeys(work);
    for (const [at, stretch] of work.sequence.model.stretches.entries()) {
      const rows = stretch.parting === null ? null : work.partingRows.get(stretch.parting.step);
      if (keys === null || at < work.shared.length) continue;
      if (rows === undefined) return;
      this.prefixes.keep(
        keys.map((chunk) => chunk.slice(0, at + 1)),
        {
          owner: ownerLabel(work.sequence.prefixOwner),
          tokens: work.count,
          bytesPerToken: pieceBytesPerToken(stretch),
          read: () => joinPiece(read(stretch), rows),
        },
      );
    }
  }

  /** Keys up to the chunk that the work computes; null: it is not one to be kept. */
  #chunkKeys({ sequence, start, count, stepwise }: Work): string[][] | null {
    const { prefillChunk } = sequence.model;
    if (this.#config.prefixCache === "off" || stepwise || count !== prefillChunk) return null;
    return sequence.prefixKeys.slice(0, start / prefillChunk + 1);
  }

  #lookUpShared(work: Work): Float32Array[] {
    const keys = this.#chunkKeys(work);
    const pieces = keys === null ? [] : (this.prefixes.lookUp(keys)[keys.length - 1] ?? []);
    // The last stretch is computed anyway: the chunk's rows go on to its end.
    return pieces.slice(0, Math.max(0, work.sequence.model.stretches.length - 1));
  }

  checkIntegrity(): void {
    this.#residency.checkIntegrity([...this.#running].map(({ model }) => model.key));
    this.ledger.checkIntegrity(new Set([...[...this.#running].map(({ id }) => id), ...this.prefixes.holders]));
    this.prefixes.checkIntegrity();
    this.#aside.checkIntegrity(new Set([...this.#waiting].map(({ id }) => id)));
  }

  /** A change of models may have cut the segments of those who run otherwise: who finds no room for the new ones yields. */
  #claimWeights(yielded: Sequence[]): void {
    for (const sequence of this.#running) {
      const { key } = sequence.model;
      const missing = this.#residency.missingBytes(key);
      if (missing === 0) continue;
      if (this.#canClaim(sequence.claimFor(sequence.cached), missing)) this.#residency.demand(key);
      else {
        this.#yield(sequence);
        yielded.push(sequence);
      }
    }
  }

  /** While others wait for a prefill, decodes leave room for one chunk. */
  #pickDecodes(yielded: Sequence[]): Sequence[] {
    const ready = [...this.#running].filter((sequence) => isDecode(sequence) && this.#isReady(sequence));
    const othersWait = this.#waiting.size + this.#running.size > ready.length;
    const budget = this.#config.maxBatchTokens - (othersWait ? this.#config.prefillChunk : 0);
    const picked: Sequence[] = [];
    for (const sequence of this.#inTurns(ready)) {
      if (picked.length === budget) break;
      if (this.#running.has(sequence) && this.#makeRoom(sequence, yielded)) picked.push(sequence);
    }
    return picked.filter((sequence) => this.#running.has(sequence));
  }

  /**
   * Whoever's turn it is and finds no pages holds up all who wait behind: nobody is passed for being large. Who finds no
   * room for its model is passed for a while (load-patience.ts).
   */
  #pickPrefills(budget: number, lists: Lists): Sequence[] {
    const ready = [...this.#running].filter((sequence) => !isDecode(sequence) && this.#isReady(sequence));
    const picked: Sequence[] = [];
    let left = budget;
    let mayAdmit = true;
    for (const sequence of this.#inTurns([...ready, ...this.#startable()])) {
      if (this.#cost(sequence) > left) break;
      if (this.#waiting.has(sequence)) {
        if (!mayAdmit) continue;
        if (!this.#admit(sequence, lists)) mayAdmit = this.#mayBePassed(sequence);
        if (!this.#running.has(sequence) || !this.#isReady(sequence)) continue;
      }
      left -= this.#cost(sequence);
      picked.push(sequence);
    }
    return picked;
  }

  #rowsLeft(work: readonly Work[]): number {
    return this.#config.maxBatchTokens - work.reduce((sum, one) => sum + this.#costOf(one), 0);
  }

  /**
   * Room for the model, and pages for all tokens known so far and the next one: who is admitted gets at least to its
   * next token.
   */
  #admit(sequence: Sequence, lists: Lists): boolean {
    const { key, prefillChunk } = sequence.model;
    const claim = sequence.claimFor(Math.min(sequence.tokens.length + 1, sequence.maxLength));
    // Twice: what it will use becomes the youngest before anything is given up for it.
    this.#lookUpPrefix(sequence);
    this.#residency.hold(key);
    if (!this.#findRoom(sequence, claim, lists)) {
      this.#residency.letGo(key);
      return false;
    }
    this.#residency.demand(key);
    this.ledger.claim(claim);
    const kept = this.#aside.tokensOf(sequence);
    const prefix = kept > 0 ? [] : this.#lookUpPrefix(sequence);
    if (sequence.computed === 0) sequence.reused = prefix.length * prefillChunk;
    sequence.advance(kept > 0 ? kept : prefix.length * prefillChunk);
    sequence.beginTurn();
    lists.admitted.push({ sequence, prefix, returns: kept > 0 });
    this.#waiting.delete(sequence);
    this.#running.add(sequence);
    return true;
  }

  #findRoom(sequence: Sequence, claim: PageClaim, { yielded }: Lists): boolean {
    const missing = this.#residency.missingBytes(sequence.model.key);
    while (this.#running.size >= this.#config.maxSequences || !this.#canClaim(claim, missing)) {
      const victim = this.#victimOf(sequence, missing);
      if (!victim) return false;
      this.#yield(victim);
      yielded.push(victim);
    }
    return true;
  }

  /** Of a worse class; or, where the sequence's model has waited very long for memory, of no better one. */
  #victimOf({ rank, model }: Sequence, missing: number): Sequence | undefined {
    const worse = firstToYield([...this.#running].filter((one) => one.rank > rank));
    if (worse || missing === 0) return worse;
    this.#patience.wait(model.key, this.#residency.secondsFor(missing));
    if (!this.#patience.isLost(model.key)) return undefined;
    return firstToYield([...this.#running].filter((one) => one.rank >= rank && one.freshTokens >= LEAST_TURN));
  }

  #mayBePassed({ model }: Sequence): boolean {
    return this.#residency.missingBytes(model.key) > 0 && !this.#patience.isOver(model.key);
  }

  /** Those that wait, without those of tenants that run as many as they may. */
  #startable(): Sequence[] {
    const room = new Map<string, number>();
    for (const { tenant } of this.#running) room.set(tenant, (room.get(tenant) ?? 0) - 1);
    return [...this.#waiting]
      .toSorted((a, b) => a.due - b.due || a.id - b.id)
      .filter(({ tenant, policy }) => {
        const taken = room.get(tenant) ?? 0;
        room.set(tenant, taken - 1);
        return policy.running === null || -taken < policy.running;
      });
  }

  /** Claims the page of a decode; others yield until there is one. False: it had to yield itself. */
  #makeRoom(sequence: Sequence, yielded: Sequence[]): boolean {
    const claim = sequence.claimFor(sequence.tokens.length);
    while (!this.#canClaim(claim)) {
      const victim = firstToYield(this.#running)!;
      this.#yield(victim);
      yielded.push(victim);
      if (victim === sequence) return false;
    }
    this.ledger.claim(claim);
    return true;
  }

  /** Room for pages and for weights that are missing. Kept prefixes and idle weights go before anyone yields or waits. */
  #canClaim(claim: PageClaim, missing = 0): boolean {
    const pages = this.ledger.missingBytes(claim);
    while (!this.ledger.canClaim(claim) || pages + missing > this.#budget.free("weights")) {
      if (this.prefixes.giveUpOldest()) continue;
      if (!this.#residency.giveUp(pages + missing - this.#budget.free("weights"), this.#wanted())) return false;
    }
    return true;
  }

  /** Models that someone waits for. */
  #wanted(): ReadonlySet<string> {
    return new Set([...this.#waiting].map(({ model }) => model.key));
  }

  #isReady({ model }: Sequence): boolean {
    return this.#residency.isReady(model.key);
  }

  /** Never the whole prompt: its last token gives the first row of logits. */
  #lookUpPrefix({ prefixKeys, promptLength, model }: Sequence): Float32Array[][] {
    const found = this.prefixes.lookUp(prefixKeys.slice(0, Math.floor((promptLength - 1) / model.prefillChunk)));
    const missing = found.findIndex((pieces) => pieces.length < model.stretches.length);
    return missing === -1 ? found : found.slice(0, missing);
  }

  #yield(sequence: Sequence): void {
    this.#aside.keep(sequence);
    this.#leave(sequence);
    sequence.cached = 0;
    this.#waiting.add(sequence);
  }

  /** Who has been here long rises; his tenant then competes with those it meets there, as if it came anew. */
  #age(now: number): void {
    for (const sequence of [...this.#waiting, ...this.#running]) {
      const rank = rankOf(sequence.policy.priority, { arrived: sequence.arrived, now });
      if (rank === sequence.rank) continue;
      this.#counters.lift(sequence.tenant, this.#tenantsOfRank(rank));
      sequence.rank = rank;
    }
  }

  #tenantsOfRank(rank: number): Set<string> {
    const equals = [...this.#waiting, ...this.#running].filter((sequence) => sequence.rank === rank);
    return new Set(equals.map(({ tenant }) => tenant));
  }

  #inTurns(candidates: Sequence[]): Iterable<Sequence> {
    return inTurns(
      candidates,
      (tenant) => this.#counters.served(tenant),
      (sequence) => this.#cost(sequence) / sequence.policy.weight,
    );
  }

  #cost(sequence: Sequence): number {
    return this.#costOf(nextWork(sequence));
  }

  /** An opaque model's prompt goes in one call however long; it counts as one chunk, or it could never run. */
  #costOf({ count }: Work): number {
    return Math.min(count, this.#config.prefillChunk);
  }
}
