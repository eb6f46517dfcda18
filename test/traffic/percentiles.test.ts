import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { percentilesOf, quantile, spreadOf } from "../../src/traffic/percentiles.ts";

const values = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });

describe("percentiles", () => {
  test("lie between neighbours in proportion", () => {
    const sorted = Array.from({ length: 101 }, (_, at) => at);
    expect(quantile(sorted, 0.95)).toBe(95);
    expect(quantile([10, 20], 0.5)).toBe(15);
    expect(quantile([10, 20, 40], 0.75)).toBe(30);
    expect(quantile([7], 0.99)).toBe(7);
    expect(quantile([], 0.5)).toBeNull();
  });

  test("are in order, within the values, and do not depend on theirs", () => {
    fc.assert(
      fc.property(values, (given) => {
        const { p50, p95, p99, max, mean } = percentilesOf(given)!;
        const least = Math.min(...given);
        expect(least).toBeLessThanOrEqual(p50);
        expect(p50).toBeLessThanOrEqual(p95);
        expect(p95).toBeLessThanOrEqual(p99);
        expect(p99).toBeLessThanOrEqual(max);
        expect(max).toBe(Math.max(...given));
        expect(mean).toBeGreaterThanOrEqual(least - 1e-6);
        expect(mean).toBeLessThanOrEqual(max + 1e-6);
        const { p50: again } = percentilesOf(given.toReversed())!;
        expect(again).toBe(p50);
      }),
    );
  });

  test("of nothing are null", () => {
    expect(percentilesOf([])).toBeNull();
    expect(spreadOf([])).toBeNull();
    expect(spreadOf([3, 1, 2, 9])).toEqual({ median: 2.5, least: 1, most: 9 });
  });
});
