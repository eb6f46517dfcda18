import { RandomStream } from "./random-stream.ts";

/** When requests come whatever became of earlier ones. Rates are requests per second. */
export type OpenArrivals =
  | { kind: "poisson"; rate: number }
  | { kind: "constant"; rate: number }
  /** Seconds since the first one, ascending; played `speed` times as fast. */
  | { kind: "trace"; times: readonly number[]; speed: number };

/** What ends a run; at least one of them. */
export interface RunLimits {
  requests: number | null;
  seconds: number | null;
}

const STREAM = 0;

/** Seconds from the start of the run at which its requests are due, ascending. */
export function arrivalTimes(arrivals: OpenArrivals, { requests, seconds }: RunLimits, seed: number): number[] {
  const times: number[] = [];
  for (const time of endlessTimes(arrivals, new RandomStream(seed, STREAM))) {
    if (times.length >= (requests ?? Infinity) || time >= (seconds ?? Infinity)) break;
    times.push(time);
  }
  return times;
}

function* endlessTimes(arrivals: OpenArrivals, random: RandomStream): Generator<number> {
  if (arrivals.kind === "trace") {
    for (const time of arrivals.times) yield time / arrivals.speed;
    return;
  }
  let time = 0;
  for (;;) {
    yield time;
    time += (arrivals.kind === "poisson" ? random.exponential() : 1) / arrivals.rate;
  }
}
