import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RandomStream } from "../../src/traffic/random-stream.ts";

const DRAWS = 4000;
const seeds = fc.integer({ min: 0, max: 2 ** 31 });

function draw(seed: number, next: (random: RandomStream) => number): number[] {
  const random = new RandomStream(seed, 1);
  return Array.from({ length: DRAWS }, () => next(random));
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

describe("random numbers", () => {
  test("depend on seed and stream alone", () => {
    fc.assert(
      fc.property(seeds, fc.nat(1000), (seed, stream) => {
        const [a, b] = [new RandomStream(seed, stream), new RandomStream(seed, stream)];
        const other = new RandomStream(seed, stream + 1);
        const values = Array.from({ length: 8 }, () => a.uniform());
        expect(Array.from({ length: 8 }, () => b.uniform())).toEqual(values);
        expect(Array.from({ length: 8 }, () => other.uniform())).not.toEqual(values);
      }),
    );
  });

  test("are even, exponential and normal", () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const even = draw(seed, (random) => random.uniform());
        expect(Math.min(...even)).toBeGreaterThanOrEqual(0);
        expect(Math.max(...even)).toBeLessThan(1);
        expect(mean(even)).toBeCloseTo(0.5, 1);
        const waits = draw(seed, (random) => random.exponential());
        expect(mean(waits)).toBeGreaterThan(0.9);
        expect(mean(waits)).toBeLessThan(1.1);
        // A share of 1 - 1/e of exponential waits is below their mean.
        expect(waits.filter((wait) => wait < 1).length / DRAWS).toBeCloseTo(1 - Math.exp(-1), 1);
        const bell = draw(seed, (random) => random.normal());
        expect(mean(bell)).toBeCloseTo(0, 0);
        expect(mean(bell.map((value) => value ** 2))).toBeGreaterThan(0.85);
        expect(mean(bell.map((value) => value ** 2))).toBeLessThan(1.15);
      }),
      { numRuns: 20 },
    );
  });

  test("whole numbers reach both ends and nothing beyond", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: -5, max: 5 }), fc.integer({ min: 0, max: 6 }), (seed, least, width) => {
        const values = new Set(draw(seed, (random) => random.whole(least, least + width)));
        expect([...values].toSorted((a, b) => a - b)).toEqual(Array.from({ length: width + 1 }, (_, at) => least + at));
      }),
      { numRuns: 30 },
    );
  });
});
