import * as fc from "fast-check";
import { expect, test } from "vitest";
import { deriveSeed } from "../../../src/server/openai/to-engine-request.ts";

test("the first answer has the request's seed, the others their own, all of 32 bits", () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (seed) => {
      const seeds = Array.from({ length: 64 }, (_, index) => deriveSeed(seed, index));
      expect(new Set(seeds).size).toBe(64);
      expect(seeds.every((value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32)).toBe(true);
    }),
  );
  expect(deriveSeed(7, 0)).toBe(7);
  expect(deriveSeed(-1, 0)).toBe(2 ** 32 - 1);
});
