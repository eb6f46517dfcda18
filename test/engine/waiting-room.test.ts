import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WaitingRoom } from "../../src/engine/waiting-room.ts";

/** Seconds that a refusal names; null: it was let in. */
function enter(room: WaitingRoom, id: number, tenant?: string, queued: number | null = null): number | null {
  try {
    room.enter(id, tenant === undefined ? {} : { tenant, policy: { queued } });
    return null;
  } catch (error) {
    expect(error).toMatchObject({ code: "queue_full" });
    return (error as { retryAfterSeconds: number }).retryAfterSeconds;
  }
}

describe("places", () => {
  test("are limited by tenant and in all; whoever leaves makes room", () => {
    const room = new WaitingRoom(4, { now: () => 0 });
    expect([1, 2].map((id) => enter(room, id, "a", 1))).toEqual([null, 1]);
    expect([3, 4, 5].map((id) => enter(room, id))).toEqual([null, null, null]);
    expect([6, 7].map((id) => enter(room, id))).toEqual([1, 1]);
    room.leave(1);
    room.leave(1);
    expect([8, 9].map((id) => enter(room, id))).toEqual([null, 2]);
  });

  test("are left for tenants that come by one that floods", () => {
    const room = new WaitingRoom(100, { now: () => 0 });
    for (let id = 0; id < 100; id++) enter(room, id, "flood");
    const others = Array.from({ length: 30 }, (_, at) => enter(room, 1000 + at, `t${at % 3}`));
    expect(others.filter((seconds) => seconds === null).length).toBeGreaterThan(25);
  });
});

describe("the time to come back", () => {
  test("follows from how fast the queue has been moving, with a place of his own for everybody", () => {
    let now = 0;
    const room = new WaitingRoom(1000, { now: () => now });
    for (let id = 0; id < 1000; id++) enter(room, id);
    for (let id = 0; id < 100; id++) {
      now += 500;
      room.leave(id);
      enter(room, 1000 + id);
    }
    const told = Array.from({ length: 40 }, (_, at) => enter(room, 5000 + at)!);
    expect(told[0]).toBe(1);
    expect(told[39]! / 20).toBeGreaterThan(0.8);
    expect(told[39]! / 20).toBeLessThan(1.25);
  });

  test("is never beyond a minute, and a second at least", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ wait: fc.nat(5000), leave: fc.boolean() }), { maxLength: 80 }), (moves) => {
        let now = 0;
        const room = new WaitingRoom(3, { now: () => now });
        moves.forEach(({ wait, leave }, at) => {
          now += wait;
          if (leave) room.leave(at - 3);
          const seconds = enter(room, at);
          if (seconds !== null) expect(seconds >= 1 && seconds <= 60 && Number.isInteger(seconds)).toBe(true);
        });
      }),
    );
  });
});
