import fc from "fast-check";
import { expect, test } from "vitest";
import { inTurns, TokenCounters, type Turn } from "../../src/engine/schedule/turns.ts";

const COST = 10;

test("equal tenants alternate, and within a tenant who came first goes first", () => {
  const candidates = ["a", "a", "a", "b", "b", "c"].map((tenant, id) => ({ tenant, id }));
  const order = [
    ...inTurns(
      candidates,
      () => 0,
      () => COST,
    ),
  ].map(({ tenant, id }) => `${tenant}${id}`);
  expect(order).toEqual(["a0", "b3", "c5", "a1", "b4", "a2"]);
});

test("who was served less goes first until it has caught up", () => {
  const candidates = ["a", "a", "b", "b"].map((tenant, id) => ({ tenant, id }));
  const served = new Map([["a", 15]]);
  const order = [
    ...inTurns(
      candidates,
      (tenant) => served.get(tenant) ?? 0,
      () => COST,
    ),
  ];
  expect(order.map(({ tenant }) => tenant)).toEqual(["b", "b", "a", "a"]);
});

test("everyone gets one turn, and no tenant runs ahead of a waiting one by more than one turn", () => {
  const turns = fc.array(fc.record({ tenant: fc.constantFrom("a", "b", "c"), id: fc.nat(1000) }), { maxLength: 30 });
  fc.assert(
    fc.property(turns, (candidates: Turn[]) => {
      const order = [
        ...inTurns(
          candidates,
          () => 0,
          () => COST,
        ),
      ];
      expect(order).toHaveLength(candidates.length);
      expect(new Set(order)).toEqual(new Set(candidates));
      const got = new Map<string, number>();
      order.forEach(({ tenant }, place) => {
        const waiting = new Set(order.slice(place).map((turn) => turn.tenant));
        for (const other of waiting) expect(got.get(tenant) ?? 0).toBeLessThanOrEqual(got.get(other) ?? 0);
        got.set(tenant, (got.get(tenant) ?? 0) + 1);
      });
    }),
  );
});

test("having been idle is no claim, and is no forgiveness either", () => {
  const counters = new TokenCounters();
  counters.enter("busy", new Set());
  counters.charge("busy", 500);
  counters.enter("new", new Set(["busy"]));
  expect(counters.served("new")).toBe(500);
  counters.charge("new", 300);
  counters.enter("new", new Set(["busy"]));
  expect(counters.served("new")).toBe(800);
});
