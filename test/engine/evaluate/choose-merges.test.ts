import fc from "fast-check";
import { describe, expect, it } from "vitest";

import type { Digest } from "../../../src/blocks/block.ts";
import {
  afterMerges,
  chooseMerges,
  confirmMerges,
  type Merge,
  type RankedMerge,
} from "../../../src/engine/evaluate/choose-merges.ts";

const digestOf = (block: number): Digest => `sha256:${String(block).padStart(64, "0")}`;

/** Couples of eight blocks with costs; some couples of merges cost more together than both alone. */
const couples = fc.uniqueArray(
  fc.record({
    block: fc.integer({ min: 0, max: 7 }),
    by: fc.integer({ min: 0, max: 7 }),
    cost: fc.double({ min: 0, max: 1, noNaN: true }),
    saved_bytes: fc.integer({ min: 1, max: 100 }),
  }),
  { selector: ({ block, by }) => `${block} ${by}`, maxLength: 20 },
);

const blocks = Array.from({ length: 8 }, (_, block) => digestOf(block));

describe("chooseMerges", () => {
  it("never keeps what is beyond the budget, and ends with blocks that are in use", async () => {
    await fc.assert(
      fc.asyncProperty(couples, fc.double({ min: 0, max: 2, noNaN: true }), async (given, limit) => {
        const ranked = given
          .filter(({ block, by }) => block !== by)
          .map(({ block, by, cost, saved_bytes }) => ({
            block: digestOf(block),
            by: digestOf(by),
            saved_bytes,
            share_of_budget: cost,
            changed_models: 1 + (block % 3),
          }));
        const costOf = ({ block, by }: Merge): number =>
          ranked.find((one) => one.block === block && one.by === by)!.share_of_budget;
        const cost = (merges: readonly Merge[]): number =>
          merges.reduce((sum, merge) => sum + costOf(merge), 0) * merges.length;
        const bytes = (merges: readonly Merge[]): number =>
          new Set(blocks.map((block) => afterMerges(block, merges))).size;
        const { merges, together_refused } = await chooseMerges(ranked, {
          bytes,
          holds: async (tried) => await Promise.resolve(cost(tried) <= limit),
        });
        expect(cost(merges)).toBeLessThanOrEqual(limit);
        expect(bytes(merges)).toBe(blocks.length - merges.length);
        for (const merge of together_refused) expect(merges).not.toContainEqual(merge);
        const half = await confirmMerges(merges, {
          failing: async (left) => await Promise.resolve(cost(left) > limit / 2 ? "model" : null),
          touches: () => true,
        });
        expect(cost(half.merges)).toBeLessThanOrEqual(limit / 2);
        expect([...half.merges, ...half.taken_back.toReversed()]).toEqual(merges);
      }),
    );
  });

  it("takes most bytes for the least of the budget first", async () => {
    const [a, b, c] = blocks as [Digest, Digest, Digest];
    const ranked = [
      { block: a, by: c, saved_bytes: 10, share_of_budget: 0.5, changed_models: 1 },
      { block: b, by: c, saved_bytes: 10, share_of_budget: 0.1, changed_models: 1 },
    ];
    expect(await orderOf(ranked)).toEqual([b, a]);
  });

  it("has one model change rather than ten, whichever way costs a little less", async () => {
    const [many, one] = blocks as [Digest, Digest];
    const ranked = [
      { block: many, by: one, saved_bytes: 10, share_of_budget: 0.1, changed_models: 10 },
      { block: one, by: many, saved_bytes: 10, share_of_budget: 0.11, changed_models: 1 },
    ];
    expect(await orderOf(ranked)).toEqual([one]);
  });

  /** The blocks that were tried to be replaced, in that order, where every merge holds. */
  async function orderOf(ranked: RankedMerge[]): Promise<Digest[]> {
    const asked: Digest[] = [];
    await chooseMerges(ranked, {
      bytes: (merges) => 3 - merges.length,
      holds: async (_, { block }) => await Promise.resolve(asked.push(block) > 0),
    });
    return asked;
  }
});

describe("afterMerges", () => {
  it("follows a block through merges of what replaced it", () => {
    const [a, b, c, d] = blocks as [Digest, Digest, Digest, Digest];
    const merges = [
      { block: a, by: b },
      { block: b, by: c },
    ];
    expect([a, b, c, d].map((block) => afterMerges(block, merges))).toEqual([c, c, c, d]);
  });
});
