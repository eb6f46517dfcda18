/** Steps of fewer rows say little of how fast many are computed. */
const LEAST_ROWS = 16;
/** An observation counts half after so many later ones. */
const FADE = 0.5 ** (1 / 20);

export interface WayBackRates {
  tokensPerSecond: number;
  /** Of writing and of reading, each. */
  bytesPerSecond: number;
}

/** How a sequence that must yield gets its keys and values back soonest: computed again, or kept on disk. */
export function cheaperWayBack(
  { tokens, bytes }: { tokens: number; bytes: number },
  { tokensPerSecond, bytesPerSecond }: WayBackRates,
): "replay" | "swap" {
  return (2 * bytes) / bytesPerSecond < tokens / tokensPerSecond ? "swap" : "replay";
}

/** What both ways cost on this machine, from what was done so far. Nothing known yet: tries the disk, to know. */
export class MeasuredRates implements WayBackRates {
  readonly #computed = { amount: 0, seconds: 0 };
  readonly #moved = { amount: 0, seconds: 0 };

  get tokensPerSecond(): number {
    return rateOf(this.#computed, 0);
  }

  get bytesPerSecond(): number {
    return rateOf(this.#moved, Infinity);
  }

  observeStep(rows: number, seconds: number): void {
    if (rows >= LEAST_ROWS) observe(this.#computed, rows, seconds);
  }

  observeDisk(bytes: number, seconds: number): void {
    observe(this.#moved, bytes, seconds);
  }
}

function observe(sums: { amount: number; seconds: number }, amount: number, seconds: number): void {
  sums.amount = sums.amount * FADE + amount;
  sums.seconds = sums.seconds * FADE + seconds;
}

function rateOf({ amount, seconds }: { amount: number; seconds: number }, unknown: number): number {
  return seconds === 0 ? unknown : amount / seconds;
}
