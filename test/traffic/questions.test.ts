import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { drawLength, longestOf, type LengthDistribution } from "../../src/traffic/lengths.ts";
import { zipfRanks } from "../../src/traffic/popularity.ts";
import { questionSource, type QuestionMix } from "../../src/traffic/questions.ts";
import { RandomStream } from "../../src/traffic/random-stream.ts";

const MIX: QuestionMix = {
  seed: 7,
  tenants: [{ model: "a" }, { model: "b" }, { model: "a" }],
  zipf: 1,
  prompt: { kind: "uniform", from: 4, to: 20 },
  output: { kind: "lognormal", median: 8, sigma: 0.5, min: 2, max: 30 },
  sharedPrefix: 0,
  temperature: 0,
  vocabulary: 100,
  contextLength: 64,
};

const distributions: fc.Arbitrary<LengthDistribution> = fc.oneof(
  fc.record({ kind: fc.constant("fixed" as const), tokens: fc.integer({ min: 1, max: 500 }) }),
  fc
    .tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 0, max: 50 }))
    .map(([from, width]) => ({ kind: "uniform" as const, from, to: from + width })),
  fc
    .tuple(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 0, max: 500 }),
      fc.double({ min: 0.1, max: 2, noNaN: true }),
    )
    .map(([min, width, sigma]) => ({ kind: "lognormal" as const, median: 40, sigma, min, max: min + width })),
);

describe("lengths", () => {
  test("are whole, at least 1 and never above the longest", () => {
    fc.assert(
      fc.property(distributions, fc.nat(), (distribution, seed) => {
        const length = drawLength(distribution, new RandomStream(seed, 0));
        expect(Number.isInteger(length)).toBe(true);
        expect(length).toBeGreaterThanOrEqual(1);
        expect(length).toBeLessThanOrEqual(longestOf(distribution));
      }),
    );
  });

  test("have the median or mean they were given", () => {
    const random = new RandomStream(3, 0);
    const draw = (distribution: LengthDistribution): number[] =>
      Array.from({ length: 4000 }, () => drawLength(distribution, random)).toSorted((a, b) => a - b);
    const even = draw({ kind: "uniform", from: 10, to: 50 });
    expect(even.reduce((sum, value) => sum + value, 0) / even.length).toBeCloseTo(30, -0.5);
    const long = draw({ kind: "lognormal", median: 100, sigma: 0.6, min: 1, max: 10_000 });
    expect(long[2000]).toBeGreaterThan(93);
    expect(long[2000]).toBeLessThan(107);
    // 84 % lie below one standard deviation.
    expect(long.filter((length) => length < 100 * Math.exp(0.6)).length / 4000).toBeCloseTo(0.84, 1);
  });
});

describe("popularity", () => {
  test("falls with the rank as Zipf's law says", () => {
    const rankOf = zipfRanks(8, 1.2);
    const random = new RandomStream(1, 0);
    const counts = Array.from({ length: 8 }, () => 0);
    for (let at = 0; at < 20_000; at++) counts[rankOf(random.uniform())]!++;
    for (let rank = 1; rank < 8; rank++) {
      expect(counts[rank]).toBeLessThan(counts[rank - 1]!);
      expect(counts[0]! / counts[rank]!).toBeGreaterThan(0.85 * (rank + 1) ** 1.2);
      expect(counts[0]! / counts[rank]!).toBeLessThan(1.15 * (rank + 1) ** 1.2);
    }
  });

  test("is even with exponent 0, and always gives a rank", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (count, uniform) => {
          const even = zipfRanks(count, 0)(uniform);
          expect(Math.abs((even + 0.5) / count - uniform)).toBeLessThanOrEqual(0.5 / count + 1e-9);
          const rank = zipfRanks(count, 1.5)(uniform);
          expect(rank).toBeGreaterThanOrEqual(0);
          expect(rank).toBeLessThan(count);
        },
      ),
    );
  });
});

describe("questions", () => {
  test("depend on the mix and their number alone, whatever was asked before", () => {
    const [first, second] = [questionSource(MIX), questionSource(MIX)];
    const forwards = Array.from({ length: 20 }, (_, index) => first(index));
    const backwards = Array.from({ length: 20 }, (_, index) => second(19 - index)).toReversed();
    expect(backwards).toEqual(forwards);
    expect(questionSource({ ...MIX, seed: 8 })(0)).not.toEqual(forwards[0]);
  });

  test("fit the context, stay in the vocabulary and name their tenant's model", () => {
    fc.assert(
      fc.property(
        fc.nat(10_000),
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 90 }),
        (index, contextLength, vocabulary) => {
          const { prompt, maxTokens, tenant, model } = questionSource({ ...MIX, contextLength, vocabulary })(index);
          expect(prompt.length).toBeGreaterThanOrEqual(1);
          expect(maxTokens).toBeGreaterThanOrEqual(1);
          expect(prompt.length + maxTokens).toBeLessThanOrEqual(contextLength);
          expect(prompt.every((token) => token >= 0 && token < vocabulary)).toBe(true);
          expect(model).toBe(MIX.tenants[tenant]!.model);
        },
      ),
    );
  });

  test("of one tenant begin alike, and go on differently", () => {
    const question = questionSource({ ...MIX, sharedPrefix: 4, prompt: { kind: "fixed", tokens: 12 } });
    const asked = Array.from({ length: 40 }, (_, index) => question(index));
    const byTenant = new Map(asked.map(({ tenant }) => [tenant, asked.filter((one) => one.tenant === tenant)]));
    expect(byTenant.size).toBe(3);
    const starts = [...byTenant.values()].map((questions) => {
      expect(new Set(questions.map(({ prompt }) => prompt.slice(0, 4).join())).size).toBe(1);
      expect(new Set(questions.map(({ prompt }) => prompt.slice(4).join())).size).toBe(questions.length);
      return questions[0]!.prompt.slice(0, 4).join();
    });
    expect(new Set(starts).size).toBe(3);
  });
});
