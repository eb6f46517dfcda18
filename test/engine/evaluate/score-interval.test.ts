import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { differenceInterval, wilsonInterval } from "../../../src/engine/evaluate/score-interval.ts";

const round = (interval: number[]): number[] => interval.map((bound) => Number(bound.toFixed(4)));

describe("wilsonInterval", () => {
  it.each([
    // Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])("of %i of %i is %f to %f", (right, asked, low, high) => {
    expect(round(wilsonInterval(right, asked))).toEqual([low, high]);
  });
});

describe("differenceInterval", () => {
  it("is Newcombe's method 10", () => {
    // Statistics in Medicine 17 (1998) 2635, table III; the sign is turned, since this is after minus before.
    expect(round(differenceInterval({ bothRight: 36, onlyBefore: 12, onlyAfter: 2, neither: 0 }))).toEqual([
      -0.3404, -0.0569,
    ]);
  });

  it("holds the difference itself, and turns round when before and after change places", () => {
    const count = fc.integer({ min: 0, max: 60 });
    fc.assert(
      fc.property(count, count, count, fc.integer({ min: 1, max: 60 }), (bothRight, onlyBefore, onlyAfter, neither) => {
        const asked = bothRight + onlyBefore + onlyAfter + neither;
        const [low, high] = differenceInterval({ bothRight, onlyBefore, onlyAfter, neither });
        const difference = (onlyAfter - onlyBefore) / asked;
        expect(low).toBeLessThanOrEqual(difference);
        expect(high).toBeGreaterThanOrEqual(difference);
        const turned = differenceInterval({ bothRight, onlyBefore: onlyAfter, onlyAfter: onlyBefore, neither });
        expect(turned[0]).toBeCloseTo(-high, 12);
        expect(turned[1]).toBeCloseTo(-low, 12);
      }),
    );
  });

  it("does not claim certainty where all answers are right before and after", () => {
    const [low, high] = differenceInterval({ bothRight: 100, onlyBefore: 0, onlyAfter: 0, neither: 0 });
    expect(low).toBeLessThan(-0.03);
    expect(high).toBeCloseTo(-low, 10);
  });
});
