export const LONGEST_DRAFT = 8;
/** What a drafted token's chance is held to be before any was tried. */
const FIRST_CHANCE = 0.6;
const LEARNING_RATE = 0.25;
/** A draft token must be worth this many times its cost. */
const MARGIN = 1.25;
const SHORTEST_PAUSE = 32;
const LONGEST_PAUSE = 512;

/**
 * How many tokens of one sequence are worth drafting. The k-th is accepted with chance^k and pays while that is above
 * what its row costs. After misses it pauses, twice as long each time, until a draft is taken whole again.
 */
export class DraftLength {
  #chance = FIRST_CHANCE;
  #nextPause = SHORTEST_PAUSE;
  #paused = 0;

  /** Once per decoded token. `rowCost` as StepCost.ofRow. */
  next(rowCost: number): number {
    if (this.#paused > 0) {
      this.#paused--;
      return 0;
    }
    const length = Math.floor(Math.log(Math.min(1, rowCost * MARGIN)) / Math.log(this.#chance));
    // A busy engine is no reason to forget what was learnt; misses are.
    if (length < 1 && this.#chance < FIRST_CHANCE) this.#pause();
    return Math.min(Math.max(0, length), LONGEST_DRAFT);
  }

  record(drafted: number, accepted: number): void {
    for (let taken = 0; taken < accepted; taken++) this.#chance += LEARNING_RATE * (0.98 - this.#chance);
    if (accepted < drafted) this.#chance -= LEARNING_RATE * this.#chance;
    else this.#nextPause = SHORTEST_PAUSE;
  }

  #pause(): void {
    this.#paused = this.#nextPause;
    this.#nextPause = Math.min(LONGEST_PAUSE, this.#nextPause * 2);
    this.#chance = FIRST_CHANCE;
  }
}
