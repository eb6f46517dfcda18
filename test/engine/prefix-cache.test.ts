import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PageLedger } from "../../src/engine/kv/page-ledger.ts";
import { MemoryBudget } from "../../src/engine/memory/memory-budget.ts";
import { PrefixCache } from "../../src/engine/kv/prefix-cache.ts";
import { prefixKeys } from "../../src/engine/kv/prefix-keys.ts";
import type { EngineRequest } from "../../src/engine/request.ts";
import { EVERY_KIND, splitFixtures } from "../blocks/split-fixtures.ts";
import { SequenceCache } from "../../src/engine/kv/sequence-cache.ts";
import { expectSameBits } from "./same-bits.ts";
import { recordingEngine, type RecordingEngine } from "./serve-recorded.ts";
import { coreOf, TINY } from "./tiny-model.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";

const KNOBS = { threads: 2, prefillChunk: 16, maxBatchTokens: 48 };
const PAGE_BYTES = 16 * 4 * 2 * 16 * 4;

/** Prompts that share their first 0, 16, 24, 48 or 64 tokens, some of them to the end. */
function requestsTo(models: string[], tenants = 1): [number, EngineRequest][] {
  const shared = [64, 48, 64, 24, 0, 64, 16, 64];
  return models
    .flatMap((model) => shared.map((same) => ({ model, same })))
    .map(({ model, same }, id) => [
      id,
      {
        model,
        tokens: Array.from({ length: 64 + (id % 3) * 9 }, (_, at) => (at * 7 + (at < same ? 0 : 1 + id)) % 80),
        maxTokens: 6 + (id % 4),
        sampling: { temperature: id % 2, seed: id },
        tenant: `tenant-${id % tenants}`,
        ignoreEnd: true,
      },
    ]);
}

async function expectSame(engine: RecordingEngine, requests: [number, EngineRequest][], knobs = {}) {
  const cold = await engine.run(requests, { prefixCache: "off" });
  const warm = await engine.run(requests, { prefixCache: "on", ...knobs });
  expect([cold.stats.reusedTokens, cold.stats.prefixBytes]).toEqual([0, 0]);
  expect(warm.tokens).toEqual(cold.tokens);
  expectSameBits(warm.rows, cold.rows);
  return warm.stats;
}

describe("a prompt that finds its beginning cached has the bits of a cold one", () => {
  const models = ["base", "windowed", "tuned-end", "sinks"];
  let source: TemporaryRepository;
  let engine: RecordingEngine;
  beforeAll(async () => {
    source = await temporaryRepository([
      { name: "base", layers: [10, 11, 12, 13] },
      { name: "windowed", layers: [10, 11, 12, 13], shape: { core: { window: 9 } } },
      { name: "tuned-end", layers: [10, 11, 12, 23] },
      { name: "sinks", layers: [10, 11, 12, 13], shape: { core: { sinks: [0.5, -1, 0, 2] } } },
    ]);
    engine = await recordingEngine(source.repository, models, KNOBS);
  });
  afterAll(async () => {
    await engine.close();
    await source.remove();
  });

  test("in one batch of several models", async () => {
    expect((await expectSame(engine, requestsTo(models))).reusedTokens).toBeGreaterThan(200);
  });

  test("one after the other", async () => {
    const stats = await expectSame(engine, requestsTo(models), { maxSequences: 1 });
    expect(stats.reusedTokens).toBeGreaterThan(400);
    expect(stats.partlyReusedTokens).toBeGreaterThan(60);
  });

  test("where memory is short, before anyone yields for it", async () => {
    const stats = await expectSame(engine, requestsTo(models), { kvMemoryBytes: 7 * PAGE_BYTES });
    expect(stats.kvBytes + stats.prefixBytes).toBeLessThanOrEqual(7 * PAGE_BYTES);
  });

  test("together with drafts", async () => {
    await expectSame(engine, requestsTo(models), { speculate: "always" });
  });

  test("of tenants that are grouped, also from each other and from each other's models", async () => {
    const requests = requestsTo(models, 32).map(([id, request]): [number, EngineRequest] => [
      id,
      { ...request, policy: { group: "one" } },
    ]);
    const stats = await expectSame(engine, requests, { maxSequences: 1 });
    expect(stats.reusedTokens).toBeGreaterThan(400);
    expect(stats.partlyReusedTokens).toBeGreaterThan(60);
  });

  test("and every tenant finds only its own", async () => {
    const requests = requestsTo(["base"], 8);
    expect(await expectSame(engine, requests)).toMatchObject({ reusedTokens: 0, partlyReusedTokens: 0 });
  });
});

test("and so it is for files of every kind", { timeout: 240_000 }, async () => {
  const split = await splitFixtures(EVERY_KIND);
  const names = [...split.models.keys()];
  const engine = await recordingEngine(split.repository, names, KNOBS);
  const requests = requestsTo(names).filter(([id]) => id % 8 < 3);
  expect((await expectSame(engine, requests)).reusedTokens).toBeGreaterThan(100);
  await engine.close();
  await split.remove();
});

test("state is read and written behind the row of zeros that a core with sinks has", () => {
  const core = { ...coreOf(TINY), sinks: [1, 2, 3, 4] };
  const [first, second] = [new SequenceCache([core, core], 64), new SequenceCache([core, core], 64)];
  for (const cache of [first, second]) cache.reserve(20);
  const row = (seed: number): Float32Array => Float32Array.from({ length: 20 * 16 }, (_, at) => seed + at);
  first.layers.forEach((layer, at) => layer.write(0, row(at * 1000), row(-at * 1000)));
  second.write({ from: 0, to: 16 }, first.read({ from: 0, to: 16 }));
  for (const layers of [
    { first: 0, end: 1 },
    { first: 1, end: 2 },
  ])
    second.write({ from: 16, to: 20, layers }, first.read({ from: 16, to: 20, layers }));
  expect(second.layers.map((layer) => layer.view(0, 20))).toEqual(first.layers.map((layer) => layer.view(0, 20)));
});

test("keys differ in tokens, tenant, model and chunk, and go as far as prompts are alike", () => {
  const base = { stretches: [{ key: "a" }], owner: { tenant: "t" }, chunk: 2 };
  const flatKeys = (...given: Parameters<typeof prefixKeys>): string[] => prefixKeys(...given).flat();
  const keys = flatKeys([1, 2, 3, 4, 5], base);
  expect(keys).toHaveLength(2);
  expect(flatKeys([1, 2, 3, 5], base).map((key, at) => key === keys[at])).toEqual([true, false]);
  const others = [
    { owner: { tenant: "u" } },
    { owner: { group: "t" } },
    { stretches: [{ key: "b" }] },
    { owner: { tenant: "" } },
  ];
  for (const other of others) expect(flatKeys([1, 2], { ...base, ...other })[0]).not.toBe(keys[0]);
  const odd = { stretches: [{ key: 'a",2,"' }], owner: { tenant: "" }, chunk: 2 };
  expect(flatKeys([1, 2], odd)[0]).not.toBe(keys[0]);
});

test("whatever is kept and given up, pages are exact, pieces reachable, and hits are what was kept under these keys", () => {
  const ways = fc.constantFrom(["m"], ["m", "n"], ["m", "o", "p"]);
  const moves = fc.array(
    fc.oneof(
      fc.record({
        keep: fc.array(fc.nat(2), { minLength: 1, maxLength: 5 }),
        tenant: fc.constantFrom("a", "b"),
        way: ways,
      }),
      fc.constantFrom("give up" as const, "forget" as const),
    ),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(moves, fc.integer({ min: 1, max: 12 }), (list, pages) => {
      const ledger = new PageLedger(new MemoryBudget({ memoryBytes: pages * 64, kvMemoryBytes: pages * 64 }));
      const cache = new PrefixCache(ledger);
      for (const move of list) {
        if (move === "give up") cache.giveUpOldest();
        else if (move === "forget") cache.forget("a");
        else {
          const stretches = move.way.map((key) => ({ key }));
          const keys = prefixKeys(move.keep, { stretches, owner: { tenant: move.tenant }, chunk: 1 });
          const valueOf = (chunk: number, stretch: number): number =>
            move.tenant.charCodeAt(0) + chunk * 1000 + move.way[stretch]!.charCodeAt(0) * 10_000;
          keys.forEach((_, chunk) =>
            move.way.forEach((__, stretch) => {
              const upTo = keys.slice(0, chunk + 1).map((all) => all.slice(0, stretch + 1));
              const own = Float32Array.of(valueOf(chunk, stretch));
              cache.keep(upTo, { owner: move.tenant, tokens: 1, bytesPerToken: 4, read: () => own });
            }),
          );
          cache.lookUp(keys).forEach((pieces, chunk) => {
            expect(pieces.length).toBeGreaterThan(0);
            pieces.forEach((state, stretch) => expect(state[0]).toBe(valueOf(chunk, stretch)));
          });
        }
        cache.checkIntegrity();
        ledger.checkIntegrity(new Set(cache.holders));
        expect(ledger.freeBytes + cache.claimedBytes).toBe(pages * 64);
      }
      cache.forget("a");
      cache.checkIntegrity();
      const free = ledger.freeBytes;
      expect(cache.forget("b")).toBe(pages * 64 - free);
      expect([ledger.freeBytes, cache.forget("b")]).toEqual([pages * 64, 0]);
    }),
  );
});
