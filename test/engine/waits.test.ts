import fc from "fast-check";
import { expect, test } from "vitest";
import { Waits } from "../../src/engine/waits.ts";

test("time is counted where it was spent, and a preemption each time it gives way", () => {
  const waits = new Waits(1000);
  waits.enter("load", 1500);
  waits.enter("run", 1750);
  waits.enter("aside", 2750);
  waits.enter("run", 3000);
  waits.enter("aside", 3000);
  expect(waits.until(3125)).toEqual({ queueSeconds: 0.5, loadSeconds: 0.25, asideSeconds: 0.375, preemptions: 2 });
});

test("whatever the clock does, no wait is negative or longer than all of its steps forward", () => {
  const place = fc.constantFrom("load" as const, "run" as const, "aside" as const);
  fc.assert(
    fc.property(fc.array(fc.tuple(place, fc.integer({ min: -50, max: 50 }))), (steps) => {
      let now = 0;
      const waits = new Waits(now);
      for (const [where, step] of steps) waits.enter(where, (now += step));
      const { queueSeconds, loadSeconds, asideSeconds } = waits.until(now);
      const forward = steps.reduce((sum, [, step]) => sum + Math.max(0, step), 0) / 1000;
      for (const wait of [queueSeconds, loadSeconds, asideSeconds]) expect(wait).toBeGreaterThanOrEqual(0);
      expect(queueSeconds + loadSeconds + asideSeconds).toBeLessThanOrEqual(forward + 1e-9);
    }),
  );
});
