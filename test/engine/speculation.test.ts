import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineConfig } from "../../src/engine/engine-config.ts";
import type { EngineRequest } from "../../src/engine/request.ts";
import { EVERY_KIND, splitFixtures } from "../blocks/split-fixtures.ts";
import { expectSameBits } from "./same-bits.ts";
import { recordingEngine, type RecordingEngine } from "./serve-recorded.ts";
import { temporaryRepository } from "./temporary-repository.ts";

const KNOBS = { threads: 2, prefillChunk: 16, maxBatchTokens: 96 };
const PAGE_BYTES = 16 * 4 * 2 * 16 * 4;

/** Prompts of a few tokens over and over, greedy and sampled, so that drafts are found and often wrong. */
function requestsTo(models: string[], more: Partial<EngineRequest> = {}): [number, EngineRequest][] {
  return models
    .flatMap((model) => [0, 0.7, 1.2].map((temperature) => ({ model, temperature })))
    .map(({ model, temperature }, id) => [
      id,
      {
        model,
        tokens: Array.from({ length: 9 + ((id * 11) % 40) }, (_, at) => 3 + (at % (2 + (id % 5)))),
        maxTokens: 24 + (id % 9),
        sampling: {
          temperature,
          seed: id,
          ...(id % 2 === 0 ? { frequencyPenalty: 0.3, repetitionPenalty: 1.1 } : { topK: 3 }),
        },
        tenant: `tenant-${id % 3}`,
        ignoreEnd: true,
        ...more,
      },
    ]);
}

/** The same requests with and without drafts: equal tokens, and equal bits of every row they were drawn from. */
async function expectSame(
  engine: RecordingEngine,
  requests: [number, EngineRequest][],
  knobs: Partial<EngineConfig> = {},
): Promise<Awaited<ReturnType<RecordingEngine["run"]>>["stats"]> {
  const plain = await engine.run(requests, { speculate: "off" });
  const { rows, tokens, stats } = await engine.run(requests, { speculate: "always", ...knobs });
  expect(plain.stats.draftedTokens).toBe(0);
  expect(tokens).toEqual(plain.tokens);
  expectSameBits(rows, plain.rows);
  return stats;
}

describe("drafted answers are the plain ones, token for token and bit for bit", () => {
  const models = ["base", "tuned-end", "windowed", "sinks"];
  const requests = requestsTo(models);
  let engine: RecordingEngine;
  let remove: () => Promise<void>;
  beforeAll(async () => {
    const source = await temporaryRepository([
      { name: "base", layers: [10, 11, 12, 13] },
      { name: "tuned-end", layers: [10, 11, 12, 23] },
      { name: "sinks", layers: [10, 11, 12, 13], shape: { core: { sinks: [0.5, -1, 0, 2] } } },
      { name: "windowed", layers: [10, 11, 12, 13], shape: { core: { window: 9, softcap: 4 } } },
    ]);
    remove = async () => source.remove();
    engine = await recordingEngine(source.repository, models, KNOBS);
  });
  afterAll(async () => {
    await engine.close();
    await remove();
  });

  test("in one batch of all", async () => {
    const stats = await expectSame(engine, requests);
    expect(stats.acceptedTokens).toBeGreaterThan(20);
    expect(stats.draftedTokens).toBeGreaterThan(stats.acceptedTokens);
  });

  test("each alone", async () => {
    for (const request of requests) await expectSame(engine, [request]);
  });

  test.each([17, 19, 30])("with at most %i tokens in a step", async (maxBatchTokens) => {
    await expectSame(engine, requests, { maxBatchTokens });
  });

  test("after yielding pages and being replayed", async () => {
    const stats = await expectSame(engine, requests, { kvMemoryBytes: 6 * PAGE_BYTES });
    expect(stats.yields).toBeGreaterThan(3);
    expect(stats.draftedTokens).toBeGreaterThan(0);
  });

  test.each([3, 4, 5, 6, 17])("with the stop token %i, in a draft or not", async (stop) => {
    await expectSame(engine, requestsTo(models, { stopTokens: [stop] }));
  });

  test.each([1, 2, 5, 8])("with at most %i new tokens", async (maxTokens) => {
    const stats = await expectSame(engine, requestsTo(models, { maxTokens }));
    expect(stats.generatedTokens).toBe(maxTokens * requests.length);
  });

  test("up to the end of the context", async () => {
    await expectSame(engine, requestsTo(["base"], { maxTokens: 1000 }));
  });

  test("with log-probabilities, and drafting only where it pays", async () => {
    const asked = requests.map(([id, request]): [number, EngineRequest] => [
      id,
      { ...request, sampling: { ...request.sampling, logprobs: 2 } },
    ]);
    await expectSame(engine, asked, { speculate: "auto" });
  });
});

test("and so it is for files of every kind", { timeout: 240_000 }, async () => {
  const split = await splitFixtures(EVERY_KIND);
  const names = [...split.models.keys()];
  const engine = await recordingEngine(split.repository, names, KNOBS);
  const stats = await expectSame(engine, requestsTo(names, { maxTokens: 12 }));
  expect(stats.acceptedTokens).toBeGreaterThan(20);
  await expectSame(engine, requestsTo(names, { maxTokens: 12 }), { kvMemoryBytes: 2 ** 18 });
  await engine.close();
  await split.remove();
});
