import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SwapSpace } from "../../../src/engine/memory/swap-space.ts";
import { cheaperWayBack, MeasuredRates } from "../../../src/engine/memory/way-back.ts";

describe("swapped out state", () => {
  let parent: string;
  beforeEach(() => (parent = mkdtempSync(join(tmpdir(), "blockllm-test-"))));
  afterEach(() => rmSync(parent, { recursive: true }));

  test("comes back bit for bit, each holder's own", () => {
    const piece = fc.float32Array({ maxLength: 200 });
    fc.assert(
      fc.property(fc.array(fc.array(piece, { maxLength: 4 }), { minLength: 1, maxLength: 5 }), (states) => {
        const space = new SwapSpace(parent);
        states.forEach((pieces, holder) => space.put(holder, pieces));
        expect(space.bytes).toBe(states.flat().reduce((sum, { byteLength }) => sum + byteLength, 0));
        for (const [holder, pieces] of [...states.entries()].toReversed()) {
          const back = [...space.take(holder)];
          expect(back.map((one) => [...new Uint8Array(one.buffer)])).toEqual(
            pieces.map((one) => [...new Uint8Array(one.buffer, one.byteOffset, one.byteLength)]),
          );
          space.drop(holder);
        }
        expect([space.bytes, space.holders]).toEqual([0, []]);
        space.close();
        expect(readdirSync(parent)).toEqual([]);
      }),
      { numRuns: 30 },
    );
  });

  // Windows removes no file that is open, and knows no mode bits.
  test.skipIf(process.platform === "win32")(
    "has no name that anybody could open, in a folder of this user alone",
    () => {
      const space = new SwapSpace(parent);
      space.put(1, [Float32Array.of(1, 2)]);
      const [folder] = readdirSync(parent) as [string];
      expect(readdirSync(join(parent, folder))).toEqual([]);
      expect(statSync(join(parent, folder)).mode & 0o777).toBe(0o700);
      space.close();
    },
  );

  test("leaves nothing of what could not be written", () => {
    const space = new SwapSpace(parent);
    const pieces = function* (): Generator<Float32Array> {
      yield Float32Array.of(1);
      throw new Error("no more");
    };
    expect(() => space.put(7, pieces())).toThrow("no more");
    expect([space.has(7), space.bytes]).toEqual([false, 0]);
    space.close();
  });
});

describe("the cheaper way back", () => {
  test.each([
    ["replay", { tokensPerSecond: 1000, bytesPerSecond: 1e6 }],
    ["swap", { tokensPerSecond: 100, bytesPerSecond: 1e6 }],
    ["swap", { tokensPerSecond: 1000, bytesPerSecond: 1e9 }],
  ] as const)("is to %s with %o", (way, rates) => {
    // 100 tokens of 1 kB: written and read they are 200 kB.
    expect(cheaperWayBack({ tokens: 100, bytes: 100_000 }, rates)).toBe(way);
  });

  test("follows what was measured; before, the disk is tried", () => {
    const rates = new MeasuredRates();
    const sequence = { tokens: 100, bytes: 100_000 };
    expect(cheaperWayBack(sequence, rates)).toBe("swap");
    rates.observeStep(4, 100);
    rates.observeStep(64, 0.064);
    rates.observeDisk(1e6, 1);
    expect([rates.tokensPerSecond, rates.bytesPerSecond]).toEqual([1000, 1e6]);
    expect(cheaperWayBack(sequence, rates)).toBe("replay");
    for (let step = 0; step < 100; step++) rates.observeStep(64, 6.4);
    expect(cheaperWayBack(sequence, rates)).toBe("swap");
  });
});
