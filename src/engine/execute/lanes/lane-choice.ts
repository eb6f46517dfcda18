/** How a batch goes: all of it in one walk, or in lanes. */
export type Way = "together" | "lanes";

const WAYS: readonly Way[] = ["together", "lanes"];
/** Before a way is judged, and as many of the last ones are looked at. */
const SAMPLES = 3;
/** After so many steps of a size the way that is not taken is tried again: the machine may have become another. */
const STEPS_BETWEEN_TRIES = 64;

interface Known {
  steps: number;
  /** Seconds per cost of the last steps. */
  rates: Record<Way, number[]>;
}

/**
 * Which way is faster is measured, for batches of about as many rows each: it depends on kernels, on how fast memory is and
 * on who else uses the machine. Tokens are the same both ways.
 */
export class LaneChoice {
  readonly #known = new Map<number, Known>();

  /** `costs`: what each way is estimated to take, in any unit that both share. */
  choose(rows: number, costs: Record<Way, number>): Way {
    const { steps, rates } = this.#of(rows);
    const untried = WAYS.find((way) => rates[way].length < SAMPLES);
    if (untried) return untried;
    const [best, other] = WAYS.toSorted((a, b) => medianOf(rates[a]) * costs[a] - medianOf(rates[b]) * costs[b]);
    return steps % STEPS_BETWEEN_TRIES === 0 ? other! : best!;
  }

  /** A step of so many rows took so long this way. */
  observe(rows: number, way: Way, { cost, seconds }: { cost: number; seconds: number }): void {
    const known = this.#of(rows);
    known.steps++;
    known.rates[way] = [...known.rates[way], seconds / cost].slice(-SAMPLES);
  }

  #of(rows: number): Known {
    const size = Math.ceil(Math.log2(rows));
    const known = this.#known.get(size) ?? { steps: 0, rates: { together: [], lanes: [] } };
    this.#known.set(size, known);
    return known;
  }
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
