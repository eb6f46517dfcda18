import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineRequest } from "../../src/engine/request.ts";
import { EVERY_KIND, splitFixtures } from "../blocks/split-fixtures.ts";
import { expectSameBits } from "./same-bits.ts";
import { recordingEngine, type RecordingEngine, type SampledRows } from "./serve-recorded.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";

const KNOBS = { threads: 2, prefillChunk: 16, maxBatchTokens: 48 };
/** Of a four-layer tiny model: 16 tokens × 4 layers × 2 heads × (8 + 8) floats. */
const PAGE_BYTES = 16 * 4 * 2 * 16 * 4;

function requestsTo(models: string[], count: number): [number, EngineRequest][] {
  return Array.from({ length: count }, (_, id) => [
    id,
    {
      model: models[id % models.length]!,
      tokens: Array.from({ length: 3 + ((id * 17) % 41) }, (__, at) => (at * 7 + id * 13) % 80),
      maxTokens: 20 + ((id * 5) % 17),
      sampling: { temperature: id % 3 === 0 ? 0 : 0.8, seed: id },
      tenant: `tenant-${id % 4}`,
      ignoreEnd: true,
    },
  ]);
}

async function eachAlone(engine: RecordingEngine, requests: [number, EngineRequest][]): Promise<SampledRows> {
  const alone: SampledRows = new Map();
  for (const request of requests) alone.set(request[0], (await engine.run([request])).rows.get(request[0])!);
  return alone;
}

describe("a sequence's logits are the same bit for bit", () => {
  const models = ["base", "tuned-end", "tuned-start", "unrelated", "windowed"];
  const requests = requestsTo(models, 15);
  let engine: RecordingEngine;
  let alone: SampledRows;
  let source: TemporaryRepository;

  beforeAll(async () => {
    source = await temporaryRepository([
      { name: "base", layers: [10, 11, 12, 13] },
      { name: "tuned-end", layers: [10, 11, 12, 23] },
      { name: "tuned-start", layers: [30, 11, 12, 13] },
      { name: "unrelated", layers: [40, 41], embeddingSeed: 4, shape: { hidden: 48, heads: 6, kvHeads: 3, vocab: 80 } },
      { name: "windowed", layers: [10, 11, 12, 13], shape: { core: { window: 9, softcap: 4 } } },
    ]);
    engine = await recordingEngine(source.repository, models, KNOBS);
    alone = await eachAlone(engine, requests);
  });
  afterAll(async () => {
    await engine.close();
    await source.remove();
  });

  test("in a full batch of all models, prefills and decodes mixed", async () => {
    expectSameBits((await engine.run(requests)).rows, alone);
  });

  test.each([17, 20, 33, 100, 1000])("with at most %i tokens in a batch", async (maxBatchTokens) => {
    expectSameBits((await engine.run(requests, { maxBatchTokens })).rows, alone);
  });

  test("after yielding pages and being replayed", async () => {
    const { rows, stats } = await engine.run(requests, { kvMemoryBytes: 5 * PAGE_BYTES });
    expect(stats.yields).toBeGreaterThan(3);
    expect(stats.replayedTokens).toBeGreaterThan(100);
    expectSameBits(rows, alone);
  });

  test("after yielding pages and getting them back from disk", async () => {
    const { rows, stats } = await engine.run(requests, {
      kvMemoryBytes: 5 * PAGE_BYTES,
      swap: "always",
      prefixCache: "off",
    });
    expect(stats.yields).toBeGreaterThan(3);
    expect(stats.swaps).toBe(stats.yields);
    expect(stats).toMatchObject({ replayedTokens: 0, swappedBytes: 0 });
    expectSameBits(rows, alone);
  });

  test("in lanes, alone and after yielding", async () => {
    const inLanes = await recordingEngine(source.repository, models, { ...KNOBS, lanes: 2 });
    const { rows, stats } = await inLanes.run(requests, { maxBatchTokens: 100 });
    expectSameBits(rows, alone);
    expect(stats.laneBatches).toBeGreaterThan(0);
    const drafted = await inLanes.run(requests, { speculate: "always" });
    expect(drafted.stats.draftedTokens).toBeGreaterThan(0);
    expectSameBits(drafted.rows, alone);
    const cramped = await inLanes.run(requests, { kvMemoryBytes: 5 * PAGE_BYTES });
    expect(cramped.stats.yields).toBeGreaterThan(3);
    expectSameBits(cramped.rows, alone);
    await inLanes.close();
  });

  test("submitted in another order", async () => {
    expectSameBits((await engine.run(requests.toReversed(), { maxSequences: 5 })).rows, alone);
  });
});

describe("and so it is for files of every kind, all of them served at once", () => {
  test("alone, in full batches, and after yielding", { timeout: 120_000 }, async () => {
    const split = await splitFixtures(EVERY_KIND);
    const names = [...split.models.keys()];
    const engine = await recordingEngine(split.repository, names, KNOBS);
    const requests = requestsTo(names, Math.max(40, names.length)).map(([id, request]): [number, EngineRequest] => [
      id,
      { ...request, maxTokens: 6 + (id % 5) },
    ]);
    const alone = await eachAlone(engine, requests);

    expectSameBits((await engine.run(requests)).rows, alone);
    expectSameBits((await engine.run(requests, { maxBatchTokens: 500 })).rows, alone);
    const cramped = await engine.run(requests, { kvMemoryBytes: 2 ** 17 });
    expect(cramped.stats.yields).toBeGreaterThan(0);
    expectSameBits(cramped.rows, alone);
    await engine.close();
    await split.remove();
  });
});

describe("and of models whose kernels take rows in pairs", () => {
  const pairs = ["llama-cpu-int4-b64-asym", "llama-gptq-act-cpu-int4"].map((name) => `exports/genai_v0.18.0/${name}`);

  test.each([
    { models: pairs, solo: "auto", shareBatches: "auto" },
    { models: pairs, solo: "off", shareBatches: "auto" },
    { models: ["exports/tjs/model_q4"], solo: "auto", shareBatches: "always" },
  ] as const)("whatever their number: %o", async ({ models, ...knobs }) => {
    const split = await splitFixtures([...models]);
    const engine = await recordingEngine(split.repository, [...models], { ...KNOBS, ...knobs });
    const requests = requestsTo([...models], 10);
    const alone = await eachAlone(engine, requests);
    for (const count of [2, 3, 5, 10])
      for (let first = 0; first < requests.length; first += count) {
        const some = requests.slice(first, first + count);
        const expected = new Map(some.map(([id]) => [id, alone.get(id)!]));
        expectSameBits((await engine.run(some)).rows, expected);
      }
    await engine.close();
    await split.remove();
  });
});
