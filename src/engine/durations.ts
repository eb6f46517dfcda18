/** How often something took how long: a cumulative histogram. */
export interface Durations {
  count: number;
  seconds: number;
  buckets: { le: number; count: number }[];
}

/** `bounds` in seconds, ascending. */
export function newDurations(bounds: readonly number[]): Durations {
  return { count: 0, seconds: 0, buckets: bounds.map((le) => ({ le, count: 0 })) };
}

export function countDuration(durations: Durations, seconds: number): void {
  durations.count++;
  durations.seconds += seconds;
  for (const bucket of durations.buckets) if (seconds <= bucket.le) bucket.count++;
}
