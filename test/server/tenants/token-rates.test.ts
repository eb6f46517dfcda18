import fc from "fast-check";
import { expect, test } from "vitest";
import { TokenRates } from "../../../src/server/tenants/token-rates.ts";
import { makeTenant } from "./make-tenant.ts";

const LIMIT = 600;
const acme = makeTenant("acme", { limits: { tokensPerMinute: LIMIT } });

test("whoever comes back when he is told to is let in", () => {
  let now = 0;
  const rates = new TokenRates({ now: () => now });
  rates.admit(acme, LIMIT);
  rates.charge(acme, 100);
  const wait = retryAfter(rates, 50)!;
  expect(wait).toBe(15);
  now += wait * 1000 - 1000;
  expect(retryAfter(rates, 50)).not.toBeNull();
  now += 1000;
  expect(retryAfter(rates, 50)).toBeNull();
});

test("a prompt larger than a minute's worth goes when nothing is owed", () => {
  const rates = new TokenRates({ now: () => 0 });
  expect(retryAfter(rates, 5 * LIMIT)).toBeNull();
  expect(retryAfter(rates, 1)).toBe(241);
});

test("in no stretch of time are prompts let in beyond the rate and one bucket", () => {
  const moves = fc.array(fc.record({ wait: fc.nat(20_000), tokens: fc.integer({ min: 1, max: LIMIT }) }));
  fc.assert(
    fc.property(moves, (list) => {
      let now = 0;
      const rates = new TokenRates({ now: () => now });
      let taken = 0;
      for (const { wait, tokens } of list) {
        now += wait;
        if (retryAfter(rates, tokens) === null) taken += tokens;
        expect(taken).toBeLessThanOrEqual(LIMIT + (now / 60_000) * LIMIT + 1e-6);
      }
    }),
  );
});

/** Seconds that a refusal names; null: it was let in. */
function retryAfter(rates: TokenRates, tokens: number): number | null {
  try {
    rates.admit(acme, tokens);
    return null;
  } catch (error) {
    return (error as { retryAfterSeconds: number }).retryAfterSeconds;
  }
}
