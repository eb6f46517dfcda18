/** Before anything is measured, one more row is held to take this share of a step of one row. */
const ROW_SHARE = 0.15;
/** Weight of that belief, in squared rows. */
const BELIEF = 0.5;
/** A step counts half after this many later ones. */
const HALF_LIFE = 50;
const FADE = 0.5 ** (1 / HALF_LIFE);

/** What one more row costs a step: a line through the seconds of the last steps over their rows. */
export class StepCost {
  #weight = 0;
  #rows = 0;
  #seconds = 0;
  #rowsSquared = 0;
  #rowsSeconds = 0;

  observe(rows: number, seconds: number): void {
    this.#weight = this.#weight * FADE + 1;
    this.#rows = this.#rows * FADE + rows;
    this.#seconds = this.#seconds * FADE + seconds;
    this.#rowsSquared = this.#rowsSquared * FADE + rows * rows;
    this.#rowsSeconds = this.#rowsSeconds * FADE + rows * seconds;
  }

  /** Seconds of one more row ÷ seconds per row of a step of `rows`: at 1, a row more costs what a row costs anyway. */
  ofRow(rows: number): number {
    const believed = ROW_SHARE / (1 - ROW_SHARE + ROW_SHARE * rows);
    if (this.#weight === 0) return believed * rows;
    const meanRows = this.#rows / this.#weight;
    const meanSeconds = this.#seconds / this.#weight;
    const spread = Math.max(0, this.#rowsSquared - this.#weight * meanRows ** 2);
    const slope = this.#rowsSeconds - this.#weight * meanRows * meanSeconds;
    const prior = (ROW_SHARE / (1 - ROW_SHARE + ROW_SHARE * meanRows)) * meanSeconds;
    const row = (slope + BELIEF * prior) / (spread + BELIEF);
    const step = meanSeconds + row * (rows - meanRows);
    return step <= 0 ? 1 : Math.min(1, Math.max(0.02, (row * rows) / step));
  }
}
