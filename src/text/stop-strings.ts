/**
 * Cuts a text that arrives in pieces where the first of the stop strings ends. The stop string itself is not given
 * out, not even the part of it that came in an earlier piece; and nothing else is held back.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";
  #stopped = false;

  /** Empty stop strings would stop everything: they are a caller's mistake. */
  constructor(stops: readonly string[]) {
    if (stops.includes("")) throw new Error("an empty stop string");
    this.#stops = stops;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** The text that is certain to come before any stop string. After a stop: "". */
  push(piece: string): string {
    if (this.#stopped) return "";
    const text = this.#held + piece;
    const match = this.#firstMatch(text);
    if (match !== null) {
      this.#stopped = true;
      this.#held = "";
      return text.slice(0, match);
    }
    const kept = text.length - this.#heldLength(text);
    this.#held = text.slice(kept);
    return text.slice(0, kept);
  }

  /** What was held back in case it became a stop string. */
  finish(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /** Where the stop string that ends first begins; of those that end together, the longest. */
  #firstMatch(text: string): number | null {
    let first: { start: number; end: number } | null = null;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start === -1) continue;
      const end = start + stop.length;
      if (first === null || end < first.end || (end === first.end && start < first.start)) first = { start, end };
    }
    return first?.start ?? null;
  }

  /** Length of the longest end of `text` that is the beginning of a stop string. */
  #heldLength(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
