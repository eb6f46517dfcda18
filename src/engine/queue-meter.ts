import type { Clock } from "../support/clock.ts";

/** Those who left so long ago count a third. */
const MEMORY_MS = 10_000;
const SHORTEST_LOOK_MS = 1000;
/** A place, while none has become free yet. */
const UNMEASURED_MS = 100;
const LONGEST_WAIT_S = 60;

/** How many wait, and how fast they have been leaving. */
export class QueueMeter {
  readonly #clock: Clock;
  readonly #since: number;
  #waiting = 0;
  /** Leavings, each fading with its age; as of `#seen`. */
  #left = 0;
  #seen: number;
  /** Those who were refused and told when to come; everybody who leaves makes room for one of them. */
  #line = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.now();
    this.#seen = this.#since;
  }

  get waiting(): number {
    return this.#waiting;
  }

  enter(): void {
    this.#waiting++;
  }

  leave(): void {
    this.#fade();
    this.#waiting--;
    this.#left++;
    this.#line = Math.max(0, this.#line - 1);
  }

  /** Whole seconds, 1 to 60. Everybody who asks is told a place of his own: all coming back at once would help none. */
  secondsToNextPlace(): number {
    this.#fade();
    this.#line++;
    // So much of the time since the beginning is remembered.
    const seen = MEMORY_MS * (1 - Math.exp(-(this.#clock.now() - this.#since) / MEMORY_MS));
    const perPlace = this.#left === 0 ? UNMEASURED_MS : Math.max(SHORTEST_LOOK_MS, seen) / this.#left;
    return Math.min(LONGEST_WAIT_S, Math.max(1, Math.ceil((this.#line * perPlace) / 1000)));
  }

  #fade(): void {
    const now = this.#clock.now();
    this.#left *= Math.exp(-Math.max(0, now - this.#seen) / MEMORY_MS);
    this.#seen = now;
  }
}
