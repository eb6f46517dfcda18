import fc from "fast-check";
import { expect, test } from "vitest";
import { capacityFor, deviceBytesPerToken, largestWithin } from "../../src/engine/kv/capacity.ts";
import type { CoreSpec } from "../../src/blocks/block.ts";

test("capacities are powers of two with a page behind the tokens, and the largest that fits is found", () => {
  expect([1, 48, 49, 112, 113, 1008].map(capacityFor)).toEqual([64, 64, 128, 128, 256, 1024]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200_000 }), (rows) => {
      const tokens = largestWithin(rows);
      if (tokens > 0) expect(capacityFor(tokens)).toBeLessThanOrEqual(rows);
      expect(capacityFor(tokens + 1)).toBeGreaterThan(rows);
    }),
  );
});

test("rows are counted with what rounding their tensors up adds", () => {
  const core = { kvHeads: 3, headSize: 64 } as CoreSpec;
  expect(deviceBytesPerToken([core])).toBe(2 * 4 * 256);
  expect(deviceBytesPerToken([{ ...core, kvHeads: 8 }])).toBe(2 * 4 * 512);
});
