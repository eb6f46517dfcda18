import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { candidates, topTokens } from "../../src/engine/execute/candidates.ts";
import { SeededRandom } from "../../src/engine/execute/random.ts";
import { Sampler } from "../../src/engine/execute/sampler.ts";
import type { Sampling } from "../../src/engine/request.ts";

const LOGITS = Float32Array.of(1, 3, 2, 3, -1);

function draws(sampling: Partial<Sampling>, count: number, logits = LOGITS): number[] {
  const sampler = new Sampler(sampling, [0, 2]);
  return Array.from({ length: count }, () => sampler.sample(logits).token);
}

/** Every token that 500 draws give. */
function drawn(sampling: Partial<Sampling>): number[] {
  return [...new Set(draws({ seed: 3, ...sampling }, 500))].toSorted((a, b) => a - b);
}

describe("a sampler", () => {
  test("takes the lowest id of the likeliest at temperature 0", () => {
    expect(draws({ temperature: 0 }, 3)).toEqual([1, 1, 1]);
  });

  test("draws the same tokens for the same seed, and others for another", () => {
    expect(draws({ seed: 7 }, 40)).toEqual(draws({ seed: 7 }, 40));
    expect(draws({ seed: 7 }, 40)).not.toEqual(draws({ seed: 8 }, 40));
    expect(draws({ seed: 7 }, 40)).not.toEqual(draws({ seed: 7 + 2 ** 32 }, 40));
  });

  test("draws as often as the distribution says", () => {
    const counts = new Map<number, number>();
    for (const token of draws({ seed: 1 }, 20_000)) counts.set(token, (counts.get(token) ?? 0) + 1);
    const total = LOGITS.reduce((sum, logit) => sum + Math.exp(logit), 0);
    LOGITS.forEach((logit, token) =>
      expect((counts.get(token) ?? 0) / 20_000).toBeCloseTo(Math.exp(logit) / total, 1.9),
    );
  });

  test("draws only from what top-k, top-p and min-p leave", () => {
    expect(drawn({ topK: 1 })).toEqual([1]);
    expect(drawn({ topK: 3 })).toEqual([1, 2, 3]);
    expect(drawn({ topP: 0.5 })).toEqual([1, 3]);
    expect(drawn({ topP: 0.01 })).toEqual([1]);
    expect(drawn({ topP: 0 })).toEqual([1]);
    expect(drawn({ minP: 0.3 })).toEqual([1, 2, 3]);
  });

  test("penalises what was generated, and by repetition what was in the prompt too", () => {
    expect(draws({ temperature: 0, presencePenalty: 0.5 }, 4)).toEqual([1, 3, 1, 1]);
    expect(draws({ temperature: 0, frequencyPenalty: 0.6 }, 5)).toEqual([1, 3, 1, 3, 2]);
    const last = draws({ temperature: 0, repetitionPenalty: 2 }, 3);
    expect(last).toEqual([1, 3, 1]);
  });

  test("reports log-probabilities of the model's own distribution", () => {
    const sampler = new Sampler({ temperature: 0, logprobs: 2, frequencyPenalty: 1 }, []);
    sampler.sample(LOGITS);
    const { token, logprob, topLogprobs } = sampler.sample(LOGITS);
    const normaliser = Math.log(LOGITS.reduce((sum, logit) => sum + Math.exp(logit), 0));
    expect(token).toBe(3);
    expect(logprob).toBeCloseTo(3 - normaliser, 6);
    expect(topLogprobs!.map((top) => top.token)).toEqual([1, 3]);
  });

  test("refuses logits that are no numbers", () => {
    for (const temperature of [0, 1]) {
      expect(() => draws({ temperature }, 1, new Float32Array(4).fill(NaN))).toThrow(
        expect.objectContaining({ code: "engine_failed" }),
      );
    }
  });
});

const logits = fc
  .array(fc.integer({ min: -2000, max: 2000 }), { minLength: 1, maxLength: 300 })
  .map((values) => Float32Array.from(values, (value) => value / 100));

test("the nucleus is the smallest set of likeliest tokens that reaches top-p, after top-k", () => {
  fc.assert(
    fc.property(logits, fc.nat(40), fc.constantFrom(0.05, 0.3, 0.5, 0.9, 0.95, 0.99, 1), (values, topK, topP) => {
      const probable = [...values.keys()].toSorted((a, b) => values[b]! - values[a]! || a - b);
      const kept = topK > 0 ? probable.slice(0, topK) : probable;
      const weights = kept.map((token) => Math.exp(values[token]! - values[probable[0]!]!));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      let reached = 0;
      const size = weights.findIndex((weight) => (reached += weight) >= topP * total * (1 - 1e-12)) + 1 || kept.length;
      const { tokens } = candidates(values, { temperature: 1, topK, topP, minP: 0 });
      // Sums in another order may disagree about the very last token.
      expect(Math.abs(tokens.length - (topP < 1 ? size : kept.length))).toBeLessThanOrEqual(1);
      expect([...tokens].toSorted((a, b) => a - b)).toEqual(probable.slice(0, tokens.length).toSorted((a, b) => a - b));
    }),
  );
});

test("top tokens are the likeliest, best first, the lower id of equals first", () => {
  fc.assert(
    fc.property(logits, fc.integer({ min: 0, max: 20 }), (values, count) => {
      const expected = [...values.keys()].toSorted((a, b) => values[b]! - values[a]! || a - b).slice(0, count);
      expect(topTokens(values, count)).toEqual(expected);
    }),
  );
});

test("random numbers are spread over [0, 1)", () => {
  const random = new SeededRandom(42);
  const numbers = Array.from({ length: 10_000 }, () => random.next());
  expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...numbers)).toBeLessThan(1);
  expect(numbers.reduce((sum, number) => sum + number, 0) / numbers.length).toBeCloseTo(0.5, 1.5);
});
