import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { placeSegments } from "../../src/chain/place-segments.ts";
import type { Plan, Segment } from "../../src/chain/plan.ts";

/** A plan of chains that walk through segments of given bytes and widths; each stage is a segment's first use. */
function planOf(segments: { bytes: number; width: number }[], walks: number[][]): Plan {
  const list = segments.map(
    ({ bytes, width }, id) => ({ id, bytes, inputs: [{ name: "hidden", width }] }) as unknown as Segment,
  );
  const order = [...new Set(walks.flat())].toSorted((a, b) => a - b);
  return {
    segments: list,
    stages: order.map((segment) => ({ segment, members: [] })),
    chains: walks.map((walk, chain) => ({
      chain: { name: `model-${chain}` },
      walk: walk.map((segment) => ({ kind: "segment", segment, rotary: null, adapter: 0 })),
    })),
    bytes: 0,
  } as unknown as Plan;
}

const BYTES = 4;

function crossed(walks: number[][], widths: number[], deviceOf: number[]): number {
  const jumps = walks.flatMap((walk) => walk.slice(1).map((to, at) => ({ from: walk[at]!, to })));
  return jumps.reduce((sum, { from, to }) => sum + (deviceOf[from] === deviceOf[to] ? 0 : widths[to]! * BYTES), 0);
}

/** Each takes what it is said to have. */
function place(plan: Plan, capacities: number[]): number[] {
  return placeSegments(
    plan,
    capacities,
    plan.segments.map(({ bytes }) => bytes),
  );
}

describe("placing segments on devices", () => {
  test("cuts where the least flows", () => {
    const plan = planOf(
      [8, 8, 2, 8].map((width) => ({ bytes: 10, width })),
      [[0, 1, 2, 3]],
    );
    expect(place(plan, [30, 30])).toEqual([0, 0, 1, 1]);
  });

  test("fills devices evenly where every cut costs the same", () => {
    const plan = planOf(
      [4, 4, 4, 4].map((width) => ({ bytes: 10, width })),
      [[0, 1, 2, 3]],
    );
    expect(place(plan, [40, 40])).toEqual([0, 0, 0, 0]);
    expect(place(plan, [30, 30])).toEqual([0, 0, 1, 1]);
  });

  test("says how much does not fit", () => {
    const plan = planOf(
      [
        { bytes: 10, width: 1 },
        { bytes: 30, width: 1 },
      ],
      [[0, 1]],
    );
    expect(() => place(plan, [20, 20])).toThrowError(
      expect.objectContaining({
        code: "memory_exceeded",
        message: expect.stringMatching(/40 bytes.*\(40 in all\)$/),
      }) as Error,
    );
    expect(() => place(plan, [20])).toThrowError(/40 bytes.*\(20 in all\), 20 too many$/);
  });

  test("says which models fit", () => {
    const plan = planOf(
      [10, 25, 5, 40].map((bytes) => ({ bytes, width: 1 })),
      [
        [0, 1],
        [0, 3],
        [0, 2],
      ],
    );
    expect(() => place(plan, [40])).toThrowError(
      expect.objectContaining({ hint: "these fit: --models model-0,model-2" }) as Error,
    );
    expect(() => place(plan, [3])).toThrowError(expect.objectContaining({ hint: "none of the models fits" }) as Error);
  });

  test("goes by what the sessions take, not by what is stored", () => {
    const plan = planOf(
      [10, 10].map((bytes) => ({ bytes, width: 1 })),
      [[0, 1]],
    );
    expect(placeSegments(plan, [25, 25], [20, 20])).toEqual([0, 1]);
  });

  test("no placement of consecutive segments that fits carries fewer bytes across", () => {
    const sizes = fc.array(
      fc.record({ bytes: fc.integer({ min: 1, max: 9 }), width: fc.integer({ min: 1, max: 9 }) }),
      {
        minLength: 2,
        maxLength: 6,
      },
    );
    fc.assert(
      fc.property(
        sizes,
        fc.array(fc.integer({ min: 4, max: 30 }), { minLength: 1, maxLength: 3 }),
        (segments, room) => {
          const all = segments.map((_, id) => id);
          const walks = [all, all.filter((id) => id % 2 === 0)];
          const widths = segments.map(({ width }) => width);
          const load = (deviceOf: number[], device: number): number =>
            all.reduce((sum, id) => sum + (deviceOf[id] === device ? segments[id]!.bytes : 0), 0);
          const fits = allPlacements(segments.length, room.length).filter((deviceOf) =>
            room.every((bytes, device) => load(deviceOf, device) <= bytes),
          );
          const plan = planOf(segments, walks);
          if (fits.length === 0) {
            expect(() => place(plan, room)).toThrow("do not fit");
            return;
          }
          const placed = place(plan, room);
          expect(fits).toContainEqual(placed);
          const least = Math.min(...fits.map((deviceOf) => crossed(walks, widths, deviceOf)));
          expect(crossed(walks, widths, placed)).toBe(least);
        },
      ),
    );
  });
});

/** Every way to give consecutive segments to devices in order; a device may stay empty. */
function allPlacements(segments: number, devices: number): number[][] {
  if (segments === 0) return [[]];
  return allPlacements(segments - 1, devices).flatMap((before) =>
    Array.from({ length: devices }, (_, device) => [...before, device]).filter(
      (placed) => placed.length < 2 || placed.at(-1)! >= placed.at(-2)!,
    ),
  );
}
