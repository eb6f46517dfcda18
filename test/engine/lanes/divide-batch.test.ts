import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { divideBatch } from "../../../src/engine/execute/lanes/divide-batch.ts";
import { LaneChoice } from "../../../src/engine/execute/lanes/lane-choice.ts";
import { type ChainCost, runningCosts, type SequenceItems } from "../../../src/engine/execute/lanes/lane-cost.ts";

const BASE = chain([0, 1, 2]);
const LIKE_BASE = chain([0, 1, 3]);
const TUNED = chain([4, 5, 6]);

describe("dividing a batch", () => {
  test("weights count once per lane, rows each", () => {
    expect(runningCosts([decoding(BASE), decoding(BASE), decoding(TUNED)])).toEqual([330, 360, 690]);
  });

  test("rows whose logits nobody asks for pass the head by", () => {
    const [cost] = runningCosts([{ items: [{ ...item(0), logits: "none" }], chain: chain([0], { tail: true }) }]);
    expect(cost).toBe(0);
  });

  test("who shares nothing goes alone while the others share", () => {
    const sequences = [BASE, BASE, LIKE_BASE, TUNED, TUNED].map(decoding);
    const { groups } = divideBatch(sequences, 2);
    expect(groups.map((group) => group.map((one) => one.chain))).toEqual([
      [BASE, BASE, LIKE_BASE],
      [TUNED, TUNED],
    ]);
  });

  test("a long prompt weighs as much as many tokens", () => {
    const prompt = { items: [{ ...item(0), tokens: Array.from({ length: 40 }, () => 1) }], chain: BASE };
    const { groups } = divideBatch([prompt, ...Array.from({ length: 6 }, () => decoding(BASE))], 2);
    expect(groups.map(({ length }) => length)).toEqual([1, 6]);
  });

  test("every sequence is in one lane, in order, and no lane costs more than all together", () => {
    const chains = fc.constantFrom(BASE, LIKE_BASE, TUNED);
    const sequences = fc.array(
      fc
        .record({ chain: chains, tokens: fc.integer({ min: 1, max: 64 }) })
        .map(({ chain: own, tokens }): SequenceItems => ({
          items: [{ ...item(0), tokens: Array.from({ length: tokens }, () => 1) }],
          chain: own,
        })),
      { minLength: 1, maxLength: 30 },
    );
    fc.assert(
      fc.property(sequences, fc.integer({ min: 1, max: 5 }), (all, lanes) => {
        const { groups, cost } = divideBatch(all, lanes);
        expect(groups.flat()).toEqual(all);
        expect(groups.length).toBeLessThanOrEqual(lanes);
        expect(groups.every(({ length }) => length > 0)).toBe(true);
        expect(cost).toBe(Math.max(...groups.map((group) => runningCosts(group).at(-1)!)));
        expect(cost).toBeLessThanOrEqual(runningCosts(all).at(-1)!);
      }),
    );
  });
});

describe("which way a batch goes", () => {
  const EVEN = { together: 100, lanes: 100 };
  const learn = (choice: LaneChoice, rows: number, seconds: { together: number; lanes: number }): void => {
    for (let step = 0; step < 6; step++) {
      const way = choice.choose(rows, EVEN);
      choice.observe(rows, way, { cost: EVEN[way], seconds: seconds[way] });
    }
  };

  test("the one that was faster for as many rows", () => {
    const choice = new LaneChoice();
    learn(choice, 2, { together: 1, lanes: 2 });
    learn(choice, 16, { together: 2, lanes: 1 });
    expect(choice.choose(2, EVEN)).toBe("together");
    expect(choice.choose(16, EVEN)).toBe("lanes");
    expect(choice.choose(13, EVEN)).toBe("lanes");
  });

  test("the other one where this batch divides badly", () => {
    const choice = new LaneChoice();
    learn(choice, 16, { together: 2, lanes: 1.5 });
    expect(choice.choose(16, { together: 100, lanes: 150 })).toBe("together");
  });

  test("the other one is tried again now and then, and taken when the machine has changed", () => {
    const choice = new LaneChoice();
    learn(choice, 16, { together: 1, lanes: 2 });
    const ways: string[] = [];
    for (let step = 0; step < 400; step++) {
      const way = choice.choose(16, EVEN);
      ways.push(way);
      choice.observe(16, way, { cost: 100, seconds: way === "together" ? 3 : 2 });
    }
    expect(ways.indexOf("lanes")).toBeGreaterThan(0);
    expect(ways.slice(-20)).toContain("lanes");
    expect(ways.filter((way) => way === "together").length).toBeLessThan(200);
  });
});

function chain(segments: number[], { tail = false } = {}): ChainCost {
  return { uses: segments.map((segment) => ({ segment, bytes: 100, rowBytes: 10, tail })), bytesPerToken: 0 };
}

function item(start: number): SequenceItems["items"][number] {
  return { sequence: 0, tokens: [1], start, logits: "last", stepwise: false };
}

function decoding(own: ChainCost): SequenceItems {
  return { items: [item(10)], chain: own };
}
