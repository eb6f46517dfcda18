import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { engineConfig, type EngineConfig } from "../../src/engine/engine-config.ts";
import type { BatchItem, Executor } from "../../src/engine/execute/executor.ts";
import { loadModels, type LoadedModels } from "../../src/engine/load-models.ts";
import type { EngineRequest } from "../../src/engine/request.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";

const NAMES = ["base", "tuned-end", "tuned-start", "unrelated", "windowed"];
/** Of a four-layer model: 16 tokens × 4 layers × 2 heads × (8 + 8) floats. */
const PAGE_BYTES = 16 * 4 * 2 * 16 * 4;
let source: TemporaryRepository;

beforeAll(async () => {
  source = await temporaryRepository([
    { name: "base", layers: [10, 11, 12, 13] },
    { name: "tuned-end", layers: [10, 11, 12, 23] },
    { name: "tuned-start", layers: [30, 11, 12, 13] },
    { name: "unrelated", layers: [40, 41], embeddingSeed: 4, shape: { hidden: 48, heads: 6, kvHeads: 3, vocab: 80 } },
    { name: "windowed", layers: [10, 11, 12, 13], shape: { core: { window: 9, softcap: 4 } } },
  ]);
});
afterAll(async () => source.remove());

/** What each request got: every logits row that was sampled from, bit for bit. */
type Rows = Map<number, Float32Array[]>;

const REQUESTS: EngineRequest[] = Array.from({ length: 15 }, (_, index) => ({
  model: NAMES[index % NAMES.length]!,
  tokens: Array.from({ length: 3 + ((index * 17) % 41) }, (_, at) => (at * 7 + index * 13) % 80),
  maxTokens: 20 + ((index * 5) % 17),
  sampling: { temperature: index % 3 === 0 ? 0 : 0.8, seed: index },
  tenant: `tenant-${index % 4}`,
}));

async function serve(
  requests: [number, EngineRequest][],
  knobs: Partial<EngineConfig>,
): Promise<{ rows: Rows; engine: Engine }> {
  const config = engineConfig({ threads: 2, prefillChunk: 16, maxBatchTokens: 48, ...knobs });
  const loaded = await loadModels(source.repository, NAMES, config);
  const rows: Rows = new Map(requests.map(([id]) => [id, []]));
  const engine = new Engine({ ...loaded, executor: recording(loaded, rows), config, report: () => {} });
  for (const [id, request] of requests) {
    engine.submit(id, request);
    if (id % 2 === 0) await engine.step();
  }
  while (!engine.isIdle) {
    await engine.step();
    engine.checkIntegrity();
  }
  await engine.close();
  return { rows, engine };
}

function recording({ executor }: LoadedModels, rows: Rows): Executor {
  return {
    open: (sequence, options) => executor.open(sequence, options),
    release: (sequence) => executor.release(sequence),
    stateBytes: () => executor.stateBytes(),
    close: async () => executor.close(),
    execute: async (items: BatchItem[]) => {
      const logits = await executor.execute(items);
      items.forEach((item, index) => item.logits === "last" && rows.get(item.sequence)!.push(logits[index]!.slice()));
      return logits;
    },
  };
}

describe("a sequence's logits are the same bit for bit", () => {
  let alone: Rows;
  beforeAll(async () => {
    const entries = await Promise.all(
      REQUESTS.map(async (request, id) => (await serve([[id, request]], {})).rows.get(id)!),
    );
    alone = new Map(entries.map((rows, id) => [id, rows]));
  });
  const all = REQUESTS.map((request, id): [number, EngineRequest] => [id, request]);

  test("in a full batch of all models, prefills and decodes mixed", async () => {
    const { rows } = await serve(all, {});
    expect(rows).toEqual(alone);
  });

  test.each([17, 20, 33, 100, 1000])("with at most %i tokens in a batch", async (maxBatchTokens) => {
    const { rows } = await serve(all, { maxBatchTokens });
    expect(rows).toEqual(alone);
  });

  test("with one thread", async () => {
    const { rows } = await serve(all, { threads: 1 });
    expect(rows).toEqual(alone);
  });

  test("after yielding pages and being replayed", async () => {
    const { rows, engine } = await serve(all, { kvMemoryBytes: 5 * PAGE_BYTES });
    expect(engine.stats().yields).toBeGreaterThan(3);
    expect(engine.stats().replayedTokens).toBeGreaterThan(100);
    expect(rows).toEqual(alone);
  });

  test("submitted in another order", async () => {
    const { rows } = await serve(all.toReversed(), { maxSequences: 5 });
    expect(rows).toEqual(alone);
  });
});
