import * as fc from "fast-check";
import { expect, test } from "vitest";
import { DEFAULT_POLICY } from "../../../src/engine/request.ts";
import { WaitingRoom } from "../../../src/engine/waiting-room.ts";
import { deriveSeed, requireChoices } from "../../../src/server/openai/to-engine-request.ts";
import type { Tenant } from "../../../src/server/tenants/tenant.ts";
import { makeTenant } from "../tenants/make-tenant.ts";

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

test("what could never find places enough is refused for good; what the queue has no places for now is not", () => {
  const limits = { choices: 64, queuePlaces: 9 };
  const most = (caller: Tenant | null): number => {
    for (let n = 1; ; n++) {
      try {
        requireChoices({ n, prompts: 1 }, limits, caller);
      } catch {
        return n - 1;
      }
    }
  };
  const placesFor = (request: object): number => {
    const room = new WaitingRoom(limits.queuePlaces);
    for (let id = 0; ; id++) {
      try {
        room.enter(id, request);
      } catch {
        return id;
      }
    }
  };
  expect(most(null)).toBe(placesFor({}));
  expect(most(makeTenant("acme"))).toBe(placesFor({ tenant: "acme" }));
  const few = makeTenant("few", { limits: { queued: 2 } });
  expect(most(few)).toBe(placesFor({ tenant: "few", policy: { ...DEFAULT_POLICY, queued: 2 } }));
});
