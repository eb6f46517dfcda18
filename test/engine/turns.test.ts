import fc from "fast-check";
import { expect, test } from "vitest";
import { inTurns, type Turn } from "../../src/engine/schedule/turns.ts";

const COST = 10;

const turn = (tenant: string, id: number, more: Partial<Turn> = {}): Turn => ({ tenant, id, rank: 0, due: 0, ...more });
const orderOf = (candidates: Turn[], served = new Map<string, number>(), cost = () => COST): Turn[] => [
  ...inTurns(candidates, (tenant) => served.get(tenant) ?? 0, cost),
];

test("equal tenants alternate, and within a tenant who came first goes first", () => {
  const candidates = ["a", "a", "a", "b", "b", "c"].map((tenant, id) => turn(tenant, id));
  expect(orderOf(candidates).map(({ tenant, id }) => `${tenant}${id}`)).toEqual(["a0", "b3", "c5", "a1", "b4", "a2"]);
});

test("who was served less goes first until it has caught up", () => {
  const candidates = ["a", "a", "b", "b"].map((tenant, id) => turn(tenant, id));
  expect(orderOf(candidates, new Map([["a", 15]])).map(({ tenant }) => tenant)).toEqual(["b", "b", "a", "a"]);
});

test("within a tenant who is due first goes first", () => {
  const candidates = [turn("a", 0, { due: 30 }), turn("a", 1, { due: 10 }), turn("a", 2, { due: 20 })];
  expect(orderOf(candidates).map(({ id }) => id)).toEqual([1, 2, 0]);
});

test("all of a better rank go first, whoever was served less", () => {
  const candidates = [turn("a", 0, { rank: 2 }), turn("b", 1, { rank: 1 }), turn("c", 2), turn("c", 3)];
  expect(orderOf(candidates, new Map([["c", 500]])).map(({ id }) => id)).toEqual([2, 3, 1, 0]);
});

test("everyone gets one turn, and no tenant runs ahead of a waiting one of its rank by more than one turn", () => {
  const turns = fc.array(
    fc.record({ tenant: fc.constantFrom("a", "b", "c"), id: fc.nat(1000), rank: fc.nat(2), due: fc.nat(5) }),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(turns, (candidates: Turn[]) => {
      const order = orderOf(candidates);
      expect(order).toHaveLength(candidates.length);
      expect(new Set(order)).toEqual(new Set(candidates));
      expect(order.map(({ rank }) => rank)).toEqual(order.map(({ rank }) => rank).toSorted((a, b) => a - b));
      const got = new Map<string, number>();
      order.forEach(({ tenant, rank }, place) => {
        const waiting = new Set(order.slice(place).flatMap((one) => (one.rank === rank ? [one.tenant] : [])));
        for (const other of waiting) expect(got.get(tenant) ?? 0).toBeLessThanOrEqual(got.get(other) ?? 0);
        got.set(tenant, (got.get(tenant) ?? 0) + 1);
      });
    }),
  );
});
