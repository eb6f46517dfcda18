import { describe, expect, test } from "vitest";
import { GrowableRows } from "../../src/engine/kv/growable-rows.ts";
import { PageLedger, pagesFor } from "../../src/engine/kv/page-ledger.ts";
import { MemoryBudget } from "../../src/engine/memory/memory-budget.ts";

function ledgerOf(bytes: number): PageLedger {
  return new PageLedger(new MemoryBudget({ memoryBytes: bytes, kvMemoryBytes: bytes }));
}

describe("a page ledger", () => {
  const claim = { holder: 1, tokens: 17, bytesPerToken: 10 };

  test("counts whole pages of the holder's own size", () => {
    expect([0, 1, 16, 17].map(pagesFor)).toEqual([0, 1, 1, 2]);
    const ledger = ledgerOf(1000);
    ledger.claim(claim);
    expect(ledger.freeBytes).toBe(1000 - 2 * 160);
    ledger.claim({ ...claim, tokens: 32 });
    expect(ledger.heldPages).toBe(2);
    ledger.claim({ holder: 2, tokens: 1, bytesPerToken: 3 });
    expect(ledger.freeBytes).toBe(1000 - 2 * 160 - 48);
    ledger.release(1);
    ledger.release(1);
    expect(ledger.freeBytes).toBe(952);
    ledger.checkIntegrity(new Set([2]));
  });

  test("says before what will not fit, and does not hand it out", () => {
    const ledger = ledgerOf(300);
    expect(ledger.canClaim(claim)).toBe(false);
    expect(() => ledger.claim(claim)).toThrow("Claimed 320 bytes of pages with 300 free");
    expect(ledger.freeBytes).toBe(300);
    expect(ledger.canClaim({ ...claim, tokens: 16 })).toBe(true);
  });

  test("gives back what fewer tokens do not need", () => {
    const ledger = ledgerOf(1000);
    ledger.claim({ ...claim, tokens: 40 });
    ledger.trim({ ...claim, tokens: 17 });
    expect([ledger.heldPages, ledger.freeBytes]).toEqual([2, 680]);
    ledger.trim({ ...claim, tokens: 40 });
    ledger.trim({ ...claim, holder: 7 });
    expect(ledger.freeBytes).toBe(680);
    ledger.checkIntegrity(new Set([1]));
  });

  test("finds pages whose holder is gone", () => {
    const ledger = ledgerOf(1000);
    ledger.claim(claim);
    expect(() => ledger.checkIntegrity(new Set())).toThrow("Sequence 1 is gone and still holds 2 pages");
  });
});

test("rows keep their place and values while they grow, and are zero again after shrinking", () => {
  const rows = new GrowableRows(3, 100_000_000);
  rows.resize(2);
  rows.write(1, Float32Array.of(1, 2, 3));
  rows.resize(40);
  expect([...rows.view(0, 3)]).toEqual([0, 0, 0, 1, 2, 3, 0, 0, 0]);
  expect(rows.byteLength).toBe(40 * 3 * 4);
  rows.resize(0);
  rows.resize(2);
  expect([...rows.view(1, 2)]).toEqual([0, 0, 0]);
});
