import { expect, test } from "vitest";
import { rankOf } from "../../src/engine/schedule/priority.ts";
import { TokenCounters } from "../../src/engine/schedule/token-counters.ts";

const among = (...tenants: string[]) => ({ active: new Set(tenants), equals: tenants });

test("having been idle is no claim, and is no forgiveness either", () => {
  const counters = new TokenCounters();
  counters.enter("busy", among());
  counters.charge("busy", 500);
  counters.enter("new", among("busy"));
  expect(counters.served("new")).toBe(500);
  counters.charge("new", 300);
  counters.enter("new", among("busy"));
  expect(counters.served("new")).toBe(800);
});

test("who comes competes with its equals: tenants of a class that was passed over are no measure", () => {
  const counters = new TokenCounters();
  counters.enter("passed-over", among());
  counters.enter("busy", among());
  counters.charge("busy", 500);
  counters.enter("new", { active: new Set(["busy", "passed-over"]), equals: ["busy"] });
  expect(counters.served("new")).toBe(500);
  counters.lift("passed-over", ["busy", "new"]);
  expect(counters.served("passed-over")).toBe(500);
});

test("a request rises by one class with every 30 seconds, to the best and no further", () => {
  const ranks = [0, 29_999, 30_000, 60_000, 900_000].map((now) => rankOf("low", { arrived: 0, now }));
  expect(ranks).toEqual([2, 2, 1, 0, 0]);
  expect(rankOf("high", { arrived: 5, now: 0 })).toBe(0);
});
