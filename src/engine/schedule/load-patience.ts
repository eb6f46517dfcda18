/** A model that waits for memory is passed until it waited so many times as long as its loading takes. */
const LOADS_PASSED = 5;
/** And then, while nobody new begins, so many times until those who run must give way. */
const LOADS_LOST = 10;
/** Loading takes no less than this, whatever was measured: a few steps are nobody's turn. */
const LEAST_LOAD_SECONDS = 0.05;

/**
 * How long a model waits for memory that others use. Loading costs time for all, so whoever is loaded keeps the memory
 * for a multiple of it; but not longer, however much they still have to do.
 */
export class LoadPatience {
  readonly #waits = new Map<string, { since: number; loadSeconds: number }>();
  #now = 0;

  /** A step begins, `now` in ms; only models for which `waits` says so still do. */
  begin(now: number, waits: (model: string) => boolean): void {
    this.#now = now;
    for (const model of this.#waits.keys()) if (!waits(model)) this.#waits.delete(model);
  }

  /** The model found no room, for the first time or again. */
  wait(model: string, loadSeconds: number): void {
    this.#waits.set(model, {
      since: this.#waits.get(model)?.since ?? this.#now,
      loadSeconds: Math.max(LEAST_LOAD_SECONDS, loadSeconds),
    });
  }

  /** Nobody may begin before it any more. */
  isOver(model: string): boolean {
    return this.#waited(model) >= LOADS_PASSED;
  }

  /** Those who run must give way to it. */
  isLost(model: string): boolean {
    return this.#waited(model) >= LOADS_LOST;
  }

  /** In loads. */
  #waited(model: string): number {
    const wait = this.#waits.get(model);
    return wait ? (this.#now - wait.since) / 1000 / wait.loadSeconds : 0;
  }
}
