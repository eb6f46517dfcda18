import type { Admission } from "./schedule/schedule.ts";
import type { Sequence } from "./sequence.ts";

/** How long a request did not run, seconds, and why. Kept per step: a wait within one is none. */
export interface Waited {
  /** For its first place in a step: for its turn, and for memory. */
  queueSeconds: number;
  /** For segments of its model that were being loaded. */
  loadSeconds: number;
  /** Having given way to others. */
  asideSeconds: number;
  /** How often it gave way. */
  preemptions: number;
}

type Whereabouts = "queue" | "load" | "aside" | "run";

/** Where one sequence is, and how long it has been elsewhere. */
export class Waits {
  #where: Whereabouts = "queue";
  #since: number;
  readonly #milliseconds: Record<Whereabouts, number> = { queue: 0, load: 0, aside: 0, run: 0 };
  #preemptions = 0;

  /** `now` here and below: ms since 1970. */
  constructor(now: number) {
    this.#since = now;
  }

  enter(where: Whereabouts, now: number): void {
    if (where === "aside") this.#preemptions++;
    this.#settle(now);
    this.#where = where;
  }

  until(now: number): Waited {
    this.#settle(now);
    const { queue, load, aside } = this.#milliseconds;
    return {
      queueSeconds: queue / 1000,
      loadSeconds: load / 1000,
      asideSeconds: aside / 1000,
      preemptions: this.#preemptions,
    };
  }

  /** A clock that is set back makes no wait shorter. */
  #settle(now: number): void {
    this.#milliseconds[this.#where] += Math.max(0, now - this.#since);
    this.#since = now;
  }
}

/** After scheduling: who gave way, who came in, and who has work. Whoever came in and has none waits for segments. */
export function noteWaits(
  { yielded, admitted, work }: { yielded: Sequence[]; admitted: Admission[]; work: readonly { sequence: Sequence }[] },
  now: number,
): void {
  for (const { sequence } of admitted) sequence.waits.enter("load", now);
  for (const { waits } of yielded) waits.enter("aside", now);
  for (const { sequence } of work) sequence.waits.enter("run", now);
}
