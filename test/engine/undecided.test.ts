import { expect, test } from "vitest";
import { areTies, certaintyOf } from "../../src/engine/undecided.ts";
import type { WholeModel } from "../../src/engine/whole-model.ts";

const VOCABULARY = 3;

/** Two tokens' logits; fed one by one, the first one's differ by `own`. */
function wholeModel(last: number[], own: number): WholeModel {
  const first = [0.5, 0.1, 0.2];
  return {
    logits: (_, options) => {
      const moved = options?.stepwise ? first.map((value) => value + own) : first;
      return Promise.resolve(Float32Array.from([...moved, ...last]));
    },
    greedy: () => Promise.reject(new Error("not asked")),
    close: () => Promise.resolve(),
  };
}

test.each([
  ["tied, where its own difference is more than half of their distance", 0.06, true],
  ["not tied, where it is less", 0.04, false],
  ["not tied, where the whole model is always the same", 0, false],
])("two tokens are %s", async (_, own, expected) => {
  const whole = wholeModel([1, 0.9, -3], own);
  const found = await certaintyOf(whole, { tokens: [4, 5], candidates: [0, 1], vocabulary: VOCABULARY });
  expect(found).toEqual({ ownDifference: expect.closeTo(own), isUndecided: expected });
});

test.each([[[NaN, 0.9, -3]], [[1, 0.9, NaN]]])("logits %o excuse nothing", async (last) => {
  const whole = wholeModel(last, 0);
  const found = await certaintyOf(whole, { tokens: [4, 5], candidates: [0, 1], vocabulary: VOCABULARY });
  expect(found.isUndecided).toBe(false);
});

test("a chain farther from the whole model than its own differences explain has no ties", () => {
  const tie = { ownDifference: 0.06, isUndecided: true };
  expect(areTies([tie], 0.11)).toBe(true);
  expect(areTies([tie], 0.13)).toBe(false);
  expect(areTies([tie, { ...tie, isUndecided: false }], 0.01)).toBe(false);
});
