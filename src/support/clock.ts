/** Where ages and deadlines come from; tests bring their own. */
export interface Clock {
  /** Milliseconds since 1970, as file times count them. */
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };
