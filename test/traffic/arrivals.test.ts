import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { arrivalTimes } from "../../src/traffic/arrivals.ts";

const rates = fc.double({ min: 0.5, max: 200, noNaN: true });
const seeds = fc.nat();

describe("arrivals", () => {
  test("of Poisson come in order, at the rate asked for, the same for the same seed", () => {
    fc.assert(
      fc.property(rates, seeds, (rate, seed) => {
        const times = arrivalTimes({ kind: "poisson", rate }, { requests: 3000, seconds: null }, seed);
        expect(times).toHaveLength(3000);
        expect(times[0]).toBe(0);
        expect(times.every((time, at) => at === 0 || time > times[at - 1]!)).toBe(true);
        expect(times.length / times.at(-1)! / rate).toBeGreaterThan(0.9);
        expect(times.length / times.at(-1)! / rate).toBeLessThan(1.1);
        expect(arrivalTimes({ kind: "poisson", rate }, { requests: 3000, seconds: null }, seed)).toEqual(times);
      }),
      { numRuns: 20 },
    );
  });

  test("of Poisson are no metronome: gaps vary as much as they last", () => {
    const times = arrivalTimes({ kind: "poisson", rate: 10 }, { requests: 5000, seconds: null }, 1);
    const gaps = times.slice(1).map((time, at) => time - times[at]!);
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    expect(Math.sqrt(variance) / mean).toBeGreaterThan(0.9);
    expect(Math.sqrt(variance) / mean).toBeLessThan(1.1);
  });

  test("end where the first limit is met", () => {
    fc.assert(
      fc.property(
        rates,
        fc.integer({ min: 1, max: 50 }),
        fc.double({ min: 0.1, max: 5, noNaN: true }),
        (rate, requests, seconds) => {
          const times = arrivalTimes({ kind: "poisson", rate }, { requests, seconds }, 3);
          expect(times.length).toBeLessThanOrEqual(requests);
          expect(times.every((time) => time < seconds)).toBe(true);
          const unlimited = arrivalTimes({ kind: "poisson", rate }, { requests, seconds: null }, 3);
          expect(unlimited.slice(0, times.length)).toEqual(times);
        },
      ),
    );
  });

  test("at a constant rate are evenly spaced", () => {
    const times = arrivalTimes({ kind: "constant", rate: 4 }, { requests: null, seconds: 1.1 }, 0);
    expect(times).toEqual([0, 0.25, 0.5, 0.75, 1]);
  });

  test("of a trace are played as they are, or faster", () => {
    const trace = { kind: "trace", times: [0, 0, 3, 10] } as const;
    expect(arrivalTimes({ ...trace, speed: 1 }, { requests: null, seconds: null }, 0)).toEqual([0, 0, 3, 10]);
    expect(arrivalTimes({ ...trace, speed: 2 }, { requests: 3, seconds: null }, 0)).toEqual([0, 0, 1.5]);
  });
});
