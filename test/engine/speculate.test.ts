import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DraftLength, LONGEST_DRAFT } from "../../src/engine/speculate/draft-length.ts";
import { lookUpDraft } from "../../src/engine/speculate/prompt-lookup.ts";
import { StepCost } from "../../src/engine/speculate/step-cost.ts";

describe("a draft", () => {
  test.each<[string, number[], number[]]>([
    ["goes on as it went on before", [1, 2, 3, 4, 9, 1, 2, 3], [4, 9, 1, 2]],
    ["takes the longer match", [1, 2, 3, 7, 8, 2, 3, 6, 1, 2, 3], [7, 8, 2, 3]],
    ["takes the later of equal matches", [1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], [8, 1, 2, 3]],
    ["goes on from itself in a loop", [5, 6, 5, 6], [5, 6, 5, 6]],
    ["repeats one token", [5, 5, 5], [5, 5, 5, 5]],
    ["is empty where the end is new", [1, 2, 3, 4, 5], []],
    ["is empty after one token in common", [1, 2, 3, 2], []],
    ["is empty for a single token", [1], []],
  ])("%s", (_, tokens, draft) => {
    expect(lookUpDraft(tokens, 4)).toEqual(draft);
  });

  test("of any list has tokens of the list, as many as asked or none", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(3), { minLength: 1 }), fc.integer({ min: 1, max: 9 }), (tokens, count) => {
        const draft = lookUpDraft(tokens, count);
        expect([0, count]).toContain(draft.length);
        expect(draft.every((token) => tokens.includes(token))).toBe(true);
      }),
    );
  });
});

describe("the length of drafts", () => {
  test("grows while they are right", () => {
    const drafting = new DraftLength();
    const lengths = Array.from({ length: 6 }, () => {
      const length = drafting.next(0.1);
      drafting.record(length, length);
      return length;
    });
    expect(lengths[0]).toBeGreaterThan(0);
    expect(lengths.at(-1)).toBe(LONGEST_DRAFT);
  });

  test("pauses after misses, ever longer, but tries again", () => {
    const drafting = new DraftLength();
    const rows = (tokens: number): number => {
      let drafted = 0;
      for (let token = 0; token < tokens; token++) {
        const length = drafting.next(0.15);
        if (length > 0) drafting.record(length, 0);
        drafted += length;
      }
      return drafted;
    };
    expect(rows(100)).toBeGreaterThan(0);
    expect(rows(2000)).toBeLessThan(70);
    expect(rows(600)).toBeGreaterThan(0);
  });

  test("is none where a row more costs what a row costs anyway", () => {
    expect(new DraftLength().next(1)).toBe(0);
  });
});

describe("the cost of a row", () => {
  test.each([0.02, 0.2, 0.5])("is learnt from steps of different sizes: share %f", (share) => {
    const cost = new StepCost();
    for (let step = 0; step < 200; step++)
      cost.observe(1 + (step % 5), (1 - share) * 0.03 + share * 0.03 * (1 + (step % 5)));
    expect(cost.ofRow(1)).toBeCloseTo(share, 1);
    expect(cost.ofRow(50)).toBeGreaterThan(cost.ofRow(1));
  });

  test("is between almost nothing and a whole row, whatever is measured", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 64 }), fc.double({ min: 0, max: 9, noNaN: true }))),
        (steps) => {
          const cost = new StepCost();
          for (const [rows, seconds] of steps) cost.observe(rows, seconds);
          for (const rows of [1, 7, 64]) {
            expect(cost.ofRow(rows)).toBeGreaterThanOrEqual(0.02);
            expect(cost.ofRow(rows)).toBeLessThanOrEqual(1);
          }
        },
      ),
    );
  });
});
