import type { Clock } from "../support/clock.ts";

/** Those who left so long ago count a third. */
const MEMORY_MS = 10_000;
const SHORTEST_LOOK_MS = 1000;
const LONGEST_WAIT_S = 60;

/** How many wait, and how fast they have been leaving. */
export class QueueMeter {
  readonly #clock: Clock;
  readonly #since: number;
  #waiting = 0;
  /** Leavings, each fading with its age; as of `#seen`. */
  #left = 0;
  #seen: number;
  /** The place promised to whoever was refused last, ms. */
  #promised = 0;

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
  }

  /** Whole seconds, 1 to 60. Everybody who asks is told a place of his own: all coming back at once would help none. */
  secondsToNextPlace(): number {
    this.#fade();
    const now = this.#clock.now();
    // So much of the time since the beginning is remembered.
    const seen = Math.max(SHORTEST_LOOK_MS, MEMORY_MS * (1 - Math.exp(-(now - this.#since) / MEMORY_MS)));
    const perPlace = seen / Math.max(1, this.#left);
    this.#promised = Math.min(Math.max(now, this.#promised) + perPlace, now + LONGEST_WAIT_S * 1000);
    return Math.min(LONGEST_WAIT_S, Math.max(1, Math.ceil((this.#promised - now) / 1000)));
  }

  #fade(): void {
    const now = this.#clock.now();
    this.#left *= Math.exp(-Math.max(0, now - this.#seen) / MEMORY_MS);
    this.#seen = now;
  }
}
