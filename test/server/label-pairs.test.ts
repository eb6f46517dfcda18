import fc from "fast-check";
import { expect, test } from "vitest";
import { LabelPairs } from "../../src/server/label-pairs.ts";

test("the first pairs have series of their own and keep them; later ones share, by model as long as these are few", () => {
  const pairs = new LabelPairs(2);
  expect(pairs.of({ tenant: "a", model: "m" })).toEqual({ tenant: "a", model: "m" });
  expect(pairs.of({ tenant: "b", model: "m" })).toEqual({ tenant: "b", model: "m" });
  expect(pairs.of({ tenant: "c", model: "m" })).toEqual({ tenant: "(others)", model: "m" });
  expect(pairs.of({ tenant: "a", model: "m" })).toEqual({ tenant: "a", model: "m" });
  expect(pairs.of({ tenant: "c", model: "n" })).toEqual({ tenant: "(others)", model: "n" });
  expect(pairs.of({ tenant: "c", model: "o" })).toEqual({ tenant: "(others)", model: "(others)" });
});

test("whoever asks for whatever: at most twice the limit and one", () => {
  const name = fc.string({ maxLength: 3 });
  fc.assert(
    fc.property(fc.array(fc.record({ tenant: name, model: name })), fc.integer({ min: 1, max: 8 }), (asked, limit) => {
      const pairs = new LabelPairs(limit);
      const labels = new Set(asked.map((pair) => JSON.stringify(pairs.of(pair))));
      expect(labels.size).toBeLessThanOrEqual(2 * limit + 1);
    }),
  );
});
