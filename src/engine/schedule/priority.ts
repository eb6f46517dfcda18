/** Classes of requests; one of a better class goes before all of a worse one. */
export const PRIORITIES = ["high", "normal", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Whoever has been here so long rises by one class: nobody starves behind a better class that never rests. */
export const AGEING_MS = 30_000;

/** 0 goes first. `arrived` and `now` in ms. */
export function rankOf(priority: Priority, { arrived, now }: { arrived: number; now: number }): number {
  return Math.max(0, PRIORITIES.indexOf(priority) - Math.floor(Math.max(0, now - arrived) / AGEING_MS));
}
