import { countDuration, newDurations, type Durations } from "../durations.ts";
import type { Loadable, Needs } from "../execute/executor.ts";
import { chooseIdle } from "./choose-idle.ts";
import type { MemoryBudget } from "./memory-budget.ts";

interface Unit {
  loadable: Loadable;
  /** Who needs it. */
  models: ReadonlySet<string>;
  /** `due`: its memory is taken, and it is loaded between two steps. */
  state: "out" | "due" | "in";
  lastUse: number;
}

/**
 * Which segments are in memory. Sequences that run hold their model; what nobody holds may be unloaded when others need
 * the memory, and is loaded again when asked for. Loading and unloading happen between steps.
 */
export class Residency {
  readonly #budget: MemoryBudget;
  #units = new Map<string, Unit>();
  #unitsOf = new Map<string, Unit[]>();
  readonly #holds = new Map<string, number>();
  #preparing: readonly Unit[] = [];
  readonly #leaving: Loadable[] = [];
  #uses = 0;
  readonly #loads = newDurations(LOAD_SECONDS);
  /** In the seconds that these took, to say how long the rest will take. */
  #loadedBytes = 0;
  #unloads = 0;

  constructor(budget: MemoryBudget, needs: Needs) {
    this.#budget = budget;
    this.adopt(needs);
  }

  /** From now on this is what models need; the rest is unloaded. What is loaded already must fit. */
  adopt(needs: Needs): void {
    const before = this.#units;
    this.#preparing = [];
    this.#units = new Map();
    for (const [model, loadables] of needs) for (const loadable of loadables) this.#need(loadable, model, before);
    for (const [key, unit] of before) if (!this.#units.has(key)) this.#drop(unit);
    this.#unitsOf = new Map(
      [...needs].map(([model, loadables]) => [model, loadables.map(({ key }) => this.#units.get(key)!)]),
    );
  }

  /**
   * Has what models that run will need after `adopt` loaded before it, if it fits beside what is loaded. If not, it is
   * loaded after, and they wait for it.
   */
  prepare(needs: Needs): void {
    const fresh = new Map<string, Loadable>();
    for (const [model, loadables] of needs)
      if (this.#holds.has(model)) for (const one of loadables) if (!this.#units.has(one.key)) fresh.set(one.key, one);
    const bytes = [...fresh.values()].reduce((sum, one) => sum + one.bytes, 0);
    if (bytes > this.#budget.free("weights")) return;
    this.#preparing = [...fresh.values()].map((loadable) => {
      const models = new Set([...needs].flatMap(([model, all]) => (all.includes(loadable) ? [model] : [])));
      const unit: Unit = { loadable, models, state: "out", lastUse: 0 };
      this.#units.set(loadable.key, unit);
      this.#expect(unit);
      return unit;
    });
  }

  get isPreparing(): boolean {
    return this.#preparing.some(({ state }) => state === "due");
  }

  /** What the executor took beyond its needs: nobody's, and the first to go. */
  keepExtras(extras: readonly Loadable[]): void {
    for (const [key, unit] of this.#units) {
      if (unit.models.size > 0 || unit.loadable.isLoaded) continue;
      if (unit.state === "in") this.#budget.give("weights", unit.loadable.bytes);
      this.#units.delete(key);
    }
    for (const loadable of extras) {
      if (this.#units.has(loadable.key)) continue;
      this.#budget.take("weights", loadable.bytes);
      this.#units.set(loadable.key, { loadable, models: new Set(), state: "in", lastUse: this.#uses });
    }
  }

  isReady(model: string): boolean {
    return this.#of(model).every(({ state }) => state === "in");
  }

  /** A sequence of the model begins to run: what it needs stays. */
  hold(model: string): void {
    this.#holds.set(model, (this.#holds.get(model) ?? 0) + 1);
    this.#touch(model);
  }

  letGo(model: string): void {
    const left = this.#holds.get(model)! - 1;
    if (left > 0) this.#holds.set(model, left);
    else this.#holds.delete(model);
    this.#touch(model);
  }

  /** Memory that is still to be taken before the model can run. */
  missingBytes(model: string): number {
    return bytesOf(this.#of(model).filter(({ state }) => state === "out"));
  }

  /** All that the model takes while it can run. */
  bytesFor(model: string): number {
    return bytesOf(this.#of(model));
  }

  /** Takes memory for what is missing; `loadNext` does the rest. Ask first whether it fits. */
  demand(model: string): void {
    for (const unit of this.#of(model)) if (unit.state === "out") this.#expect(unit);
  }

  /** What fits of these models, in their order, is there before it is asked for. Room for keys and values is left. */
  expectWhatFits(models: readonly string[]): void {
    const spare = Math.min(this.#budget.kvLimitBytes, this.#budget.totalBytes * KV_SHARE_AT_START);
    for (const unit of models.flatMap((model) => this.#of(model))) {
      const fits = this.#budget.free("weights") - unit.loadable.bytes >= spare;
      if (unit.state === "out" && fits) this.#expect(unit);
    }
  }

  /** Unloads what is idle until `bytes` more are free; false, and nothing changes, where that is not enough. */
  giveUp(bytes: number, wanted: ReadonlySet<string>): boolean {
    if (bytes <= 0) return false;
    const units = [...this.#units.values()].filter(({ state }) => state !== "out");
    const chosen = chooseIdle(
      units.map(({ loadable: { key, bytes: size }, models, lastUse }) => ({
        key,
        bytes: size,
        idle: [...models].every((model) => !this.#holds.has(model)),
        wanted: [...models].some((model) => wanted.has(model)),
        models: models.size,
        lastUse,
      })),
      bytes,
    );
    for (const { key } of chosen) this.#drop(this.#units.get(key)!);
    this.#unloads += chosen.length;
    return chosen.length > 0;
  }

  /** How many will be loaded between steps. */
  get dueSegments(): number {
    return this.#segments("due").length;
  }

  get hasDue(): boolean {
    return this.#leaving.length > 0 || [...this.#units.values()].some(({ state }) => state === "due");
  }

  /** Unloads what was given up. Before anything is loaded or run in its place. */
  async settle(): Promise<void> {
    for (const loadable of this.#leaving.splice(0)) if (loadable.isLoaded) await loadable.unload();
  }

  /** Loads one unit that is due, of models that are held first. Gives the models that cannot run where it fails. */
  async loadNext(): Promise<{ failed: ReadonlySet<string>; error: unknown } | null> {
    await this.settle();
    const due = [...this.#units.values()].filter(({ state }) => state === "due");
    const unit = due.find(({ models }) => [...models].some((model) => this.#holds.has(model))) ?? due[0];
    if (!unit) return null;
    const started = performance.now();
    try {
      await unit.loadable.load();
    } catch (error) {
      unit.state = "out";
      this.#budget.give("weights", unit.loadable.bytes);
      return { failed: unit.models, error };
    }
    unit.state = "in";
    if (unit.loadable.isSpace) return null;
    this.#loadedBytes += unit.loadable.bytes;
    countDuration(this.#loads, (performance.now() - started) / 1000);
    return null;
  }

  /** How long loading takes, by what was loaded so far. */
  secondsFor(bytes: number): number {
    if (this.#loadedBytes === 0) return bytes / PRIOR_BYTES_PER_SECOND;
    return (bytes / this.#loadedBytes) * this.#loads.seconds;
  }

  get stats(): Record<"segments" | "loadedSegments" | "unloads", number> & { loads: Durations } {
    return {
      segments: this.#segments("in", "due", "out").length,
      loadedSegments: this.#segments("in").length,
      loads: structuredClone(this.#loads),
      unloads: this.#unloads,
    };
  }

  /** Throws unless the memory taken is that of what is loaded or due, and exactly `running` models are held. */
  checkIntegrity(running: readonly string[]): void {
    const units = [...this.#units.values()];
    for (const { loadable, state } of units) {
      const wrong = state === "in" ? !loadable.isLoaded : loadable.isLoaded && !this.#leaving.includes(loadable);
      if (wrong) throw new Error(`${loadable.key} is ${state}, but ${loadable.isLoaded ? "" : "not "}loaded`);
    }
    this.#budget.checkIntegrity("weights", bytesOf(units.filter(({ state }) => state !== "out")));
    for (const model of new Set([...running, ...this.#holds.keys()])) {
      const count = running.filter((one) => one === model).length;
      if (count !== (this.#holds.get(model) ?? 0))
        throw new Error(`${model} is held ${this.#holds.get(model) ?? 0} times by ${count} sequences`);
    }
  }

  #segments(...states: Unit["state"][]): readonly Unit[] {
    return [...this.#units.values()].filter(({ loadable, state }) => !loadable.isSpace && states.includes(state));
  }

  #of(model: string): readonly Unit[] {
    return this.#unitsOf.get(model) ?? [];
  }

  #touch(model: string): void {
    this.#uses++;
    for (const unit of this.#of(model)) unit.lastUse = this.#uses;
  }

  #expect(unit: Unit): void {
    this.#budget.take("weights", unit.loadable.bytes);
    this.#stay(unit.loadable);
    unit.state = unit.loadable.isLoaded ? "in" : "due";
  }

  #stay(loadable: Loadable): void {
    const leaving = this.#leaving.indexOf(loadable);
    if (leaving >= 0) this.#leaving.splice(leaving, 1);
  }

  #drop(unit: Unit): void {
    if (unit.state === "out") return;
    this.#budget.give("weights", unit.loadable.bytes);
    unit.state = "out";
    this.#leaving.push(unit.loadable);
  }

  #need(loadable: Loadable, model: string, before: ReadonlyMap<string, Unit>): void {
    const { key, isLoaded, bytes } = loadable;
    const known = this.#units.get(key);
    if (known) {
      known.models = new Set([...known.models, model]);
      return;
    }
    const old = before.get(key);
    if (!old && isLoaded) {
      this.#budget.take("weights", bytes);
      this.#stay(loadable);
    }
    const { state, lastUse } = old ?? { state: isLoaded ? "in" : "out", lastUse: 0 };
    this.#units.set(key, { loadable, models: new Set([model]), state, lastUse });
  }
}

/** At start no model is loaded into the last of the memory. */
const KV_SHARE_AT_START = 0.15;

const LOAD_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Until something was loaded. */
const PRIOR_BYTES_PER_SECOND = 3e8;

function bytesOf(units: readonly Unit[]): number {
  return units.reduce((sum, { loadable }) => sum + loadable.bytes, 0);
}
