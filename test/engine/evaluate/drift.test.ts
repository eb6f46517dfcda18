import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { compareProbabilities, compareRows, DriftSum, isWithin } from "../../../src/engine/evaluate/drift.ts";

const VOCABULARY = 6;
const row = fc
  .array(fc.double({ min: -30, max: 30, noNaN: true }), { minLength: VOCABULARY, maxLength: VOCABULARY })
  .map((values) => Float32Array.from(values));

function softmax(logits: Float32Array): number[] {
  const powers = Array.from(logits, (logit) => Math.exp(logit - Math.max(...logits)));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

describe("compareProbabilities", () => {
  it("is KL and cosine of the softmaxes", () => {
    fc.assert(
      fc.property(row, row, (a, b) => {
        const [p, q] = [softmax(a), softmax(b)];
        const kl = p.reduce((sum, share, i) => sum + share * Math.log(share / q[i]!), 0);
        const dot = (x: number[], y: number[]): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
        const compared = compareProbabilities(a, b);
        expect(compared.kl).toBeCloseTo(Math.max(0, kl), 6);
        expect(compared.cosine).toBeCloseTo(dot(p, q) / Math.sqrt(dot(p, p) * dot(q, q)), 6);
      }),
    );
  });

  it("is nothing between a row and itself, also where logits are minus infinity", () => {
    const masked = Float32Array.of(1, -Infinity, 3);
    expect(compareProbabilities(masked, masked)).toEqual({ kl: 0, cosine: 1 });
  });
});

describe("DriftSum", () => {
  const planned = { prompts: 1, tokens: 4, answers: 2 };
  const [one, other] = [Float32Array.of(2, 0, 0), Float32Array.of(0, 2, 0)];

  it("keeps positions of answers apart", () => {
    const sum = new DriftSum(planned);
    for (const choosesAnswer of [false, false, true]) sum.add(one, one, choosesAnswer);
    sum.add(one, other, true);
    const { kl } = compareProbabilities(one, other);
    const drift = sum.drift();
    expect(drift).toMatchObject({
      tokens: 4,
      kl: kl / 4,
      kl_answers: kl / 2,
      kl_worst: kl,
      top1: 0.75,
      top1_answers: 0.5,
    });
    expect(isWithin(drift, { max_kl: kl / 3 })).toBe(false);
    expect(isWithin(drift, { max_kl: kl / 2, min_top1: 0.5 })).toBe(true);
    expect(isWithin(drift, { min_top1: 0.6 })).toBe(false);
  });

  it("knows as soon as a budget cannot be kept any more, and not before", () => {
    const rows = fc.array(fc.record({ a: row, b: row, choosesAnswer: fc.boolean() }), { minLength: 1, maxLength: 12 });
    const budget = fc.record({
      max_kl: fc.double({ min: 0, max: 5, noNaN: true }),
      min_top1: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(rows, budget, (positions, limits) => {
        const all = [...positions, { a: one, b: one, choosesAnswer: true }];
        const answers = all.filter(({ choosesAnswer }) => choosesAnswer).length;
        const sum = new DriftSum({ prompts: 1, tokens: all.length, answers });
        const beyond = all.map(({ a, b, choosesAnswer }) => {
          sum.add(a, b, choosesAnswer);
          return sum.isBeyond(limits);
        });
        const { kl, kl_answers } = sum.drift();
        fc.pre([kl, kl_answers].every((mean) => Math.abs(mean - limits.max_kl) > 1e-9));
        expect(beyond.at(-1)).toBe(!isWithin(sum.drift(), limits));
        expect(beyond.indexOf(true)).toBe(beyond.includes(true) ? beyond.lastIndexOf(false) + 1 : -1);
      }),
    );
  });

  it("never takes what is no number for within", () => {
    const sum = new DriftSum(planned);
    const broken = Float32Array.of(Number.NaN, 0, 0);
    sum.add(one, broken, true);
    sum.add(one, one, true);
    expect(sum.isBeyond({ max_kl: 100 })).toBe(true);
    expect(isWithin(sum.drift(), { min_top1: 0 })).toBe(false);
    expect(sum.drift().kl_worst).toBeNaN();
  });
});

describe("compareRows", () => {
  it("gives the mean and the least cosine of rows", () => {
    const a = Float32Array.of(1, 0, 0, 1, 0, 0);
    const b = Float32Array.of(2, 0, 1, 1, 0, 0);
    const { mean, least } = compareRows(a, b, 2);
    expect(least).toBeCloseTo(Math.SQRT1_2, 6);
    expect(mean).toBeCloseTo((1 + Math.SQRT1_2 + 1) / 3, 6);
  });
});
