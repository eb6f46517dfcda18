import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { engineConfig, type EngineConfig } from "../../src/engine/engine-config.ts";
import { Engine } from "../../src/engine/engine.ts";
import { openModels } from "../../src/engine/load-models.ts";
import type { EngineEvent, EngineRequest } from "../../src/engine/request.ts";
import { expectSameBits } from "./same-bits.ts";
import { recordedRuns, type SampledRows } from "./serve-recorded.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { putTinyModel } from "./tiny-model.ts";

const KNOBS = { threads: 1, prefillChunk: 16, maxBatchTokens: 48 };

/** An engine whose models change, and every row of logits that its requests were given. */
interface ChangingEngine {
  engine: Engine;
  rows: SampledRows;
  ends: Map<number, EngineEvent & { type: "request-end" }>;
  submit: (id: number, model: string, more?: Partial<EngineRequest>) => void;
  steps: (count: number) => Promise<void>;
  change: (names: string[], graceSeconds?: number) => Promise<void>;
  finish: () => Promise<void>;
}

async function changingEngine(
  source: TemporaryRepository,
  names: string[],
  knobs: Partial<EngineConfig> = {},
): Promise<ChangingEngine> {
  const config = engineConfig({ ...KNOBS, ...knobs });
  const loaded = await openModels(source.repository, names, config);
  const rows: SampledRows = new Map();
  const ends: ChangingEngine["ends"] = new Map();
  let now = 0;
  const engine = new Engine({
    executor: Object.assign(loaded.executor, recordedRuns(loaded.executor, rows)),
    models: loaded.models,
    config,
    clock: { now: () => now },
    report: (id, event) => {
      if (event.type !== "request-end") return;
      ends.set(id, event);
      rows.set(id, (rows.get(id) ?? []).slice(event.promptTokens - 1));
    },
  });
  const steps = async (count: number): Promise<void> => {
    for (let step = 0; step < count; step++) {
      now += 100;
      await engine.step();
      engine.checkIntegrity();
    }
  };
  return {
    engine,
    rows,
    ends,
    submit: (id, model, more = {}) => {
      rows.set(id, []);
      engine.submit(id, { ...requestTo(model, id), ...more });
    },
    steps,
    change: async (wanted, graceSeconds = 30) => {
      const next = await loaded.change!(wanted, () => engine.liveModels());
      const changing = async (): Promise<void> => {
        await engine.prepare(next);
        await engine.adopt(next, graceSeconds);
      };
      await Promise.all([changing(), steps(40)]);
    },
    finish: async () => {
      while (!engine.isIdle) await steps(1);
    },
  };
}

function requestTo(model: string, id: number): EngineRequest {
  return {
    model,
    tokens: Array.from({ length: 20 + id }, (_, at) => (at * 7 + id * 13) % 80),
    maxTokens: 60,
    sampling: { temperature: 0 },
    ignoreEnd: true,
  };
}

describe("models that come and go while others run", () => {
  let source: TemporaryRepository;
  const alone: SampledRows = new Map();

  /** The prompt of request 0, for another model: what both begin with is kept of one for the other. */
  const SAME_PROMPT = { tokens: requestTo("base", 0).tokens };

  async function runAlone(id: number, model: string, more: Partial<EngineRequest> = {}): Promise<void> {
    const one = await changingEngine(source, [model]);
    one.submit(id, model, more);
    await one.finish();
    await one.engine.close();
    alone.set(id, one.rows.get(id)!);
  }

  beforeAll(async () => {
    source = await temporaryRepository([
      { name: "base", layers: [10, 11, 12, 13] },
      { name: "end", layers: [10, 11, 12, 23] },
      { name: "middle", layers: [10, 31, 12, 13] },
      { name: "other", layers: [40, 41], embeddingSeed: 4, shape: { hidden: 48, heads: 6, kvHeads: 3, vocab: 80 } },
    ]);
    await runAlone(0, "base");
    await runAlone(1, "end");
    await runAlone(2, "middle");
    await runAlone(3, "other");
    await runAlone(4, "end", SAME_PROMPT);
    await runAlone(5, "middle", SAME_PROMPT);
  });
  afterAll(async () => source.remove());

  test("change no bit of anybody's logits, though segments are cut and joined under running sequences", async () => {
    const { engine, rows, submit, steps, change, finish } = await changingEngine(source, ["base"]);
    const segments = [engine.stats().segments];
    submit(0, "base");
    await steps(10);
    for (const names of [
      ["base", "end"],
      ["base", "end", "middle", "other"],
      ["base", "other"],
      ["base", "middle", "other"],
    ]) {
      await change(names);
      segments.push(engine.stats().segments);
      if (names.includes("end") && !rows.has(1)) {
        submit(1, "end");
        submit(4, "end", SAME_PROMPT);
      }
      if (names.includes("middle") && !rows.has(2)) {
        submit(2, "middle");
        submit(5, "middle", SAME_PROMPT);
      }
      if (names.includes("other") && !rows.has(3)) submit(3, "other");
      await steps(3);
    }
    await finish();
    expect(new Set(segments).size).toBeGreaterThan(2);
    expectSameBits(rows, alone);
    await engine.close();
  });

  test("keep what both lists have in common loaded", async () => {
    const { engine, change } = await changingEngine(source, ["base", "end"]);
    await engine.preload();
    const before = engine.stats();
    expect(before.loads.count).toBe(before.segments);
    await change(["base", "end", "other"]);
    const grown = engine.stats();
    expect(grown.segments).toBeGreaterThan(before.segments);
    expect(grown.loads.count, "new segments only").toBe(grown.segments);
    await change(["base"]);
    expect(engine.stats()).toMatchObject({ loads: grown.loads, weightBytes: expect.any(Number) });
    expect(engine.stats().loadedSegments).toBeLessThan(before.segments);
    await engine.close();
  });

  test("end their last sequences as they began, and take no new ones", async () => {
    const { engine, rows, ends, submit, steps, change, finish } = await changingEngine(source, ["base", "end"]);
    submit(1, "end");
    await steps(5);
    await change(["base"]);
    submit(7, "end");
    await finish();
    expect(ends.get(7)).toMatchObject({ reason: "error", error: expect.objectContaining({ code: "model_not_found" }) });
    expect(ends.get(1)).toMatchObject({ reason: "length", completionTokens: 60 });
    expectSameBits(new Map([[1, rows.get(1)!]]), new Map([[1, alone.get(1)!]]));
    await steps(1);
    expect(engine.stats().weightBytes).toBeLessThan((await weightsOf(["base", "end"])) - 1);
    await engine.close();
  });

  test("are cancelled after the grace, with one reason", async () => {
    // Drafts could bring it to its end before.
    const knobs = { speculate: "off" } as const;
    const { engine, ends, submit, steps, change } = await changingEngine(source, ["base", "end"], knobs);
    submit(1, "end");
    await steps(5);
    await change(["base"], 1);
    expect(ends.get(1)).toMatchObject({ reason: "cancelled" });
    expect(engine.isIdle).toBe(true);
    await engine.close();
  });

  test("mix no old keys and values with new weights under the same name", async () => {
    const replaced = await temporaryRepository([{ name: "m", layers: [10, 11] }]);
    const run = await changingEngine(replaced, ["m"]);
    run.submit(0, "m");
    await run.steps(12);
    await replaced.repository.removeModel("m");
    await putTinyModel(replaced.repository, { name: "m", layers: [10, 77] });
    await run.change(["m"]);
    run.submit(1, "m", { tokens: requestTo("m", 0).tokens });
    await run.finish();
    const fresh = await changingEngine(replaced, ["m"]);
    fresh.submit(1, "m", { tokens: requestTo("m", 0).tokens });
    await fresh.finish();
    expectSameBits(new Map([[1, run.rows.get(1)!]]), fresh.rows);
    expect(run.rows.get(0)![0]).not.toEqual(run.rows.get(1)![0]);
    expect(run.ends.get(0)).toMatchObject({ reason: "length", completionTokens: 60 });
    await run.engine.close();
    await fresh.engine.close();
    await replaced.remove();
  });

  test("take turns in memory that does not hold them all, every bit the same", async () => {
    const all = await weightsOf(["base", "other"]);
    const largest = Math.max(await weightsOf(["base"]), await weightsOf(["other"]));
    const memoryBytes = Math.ceil((all + largest) / 2);
    const { engine, rows, submit, finish } = await changingEngine(source, ["base", "other"], {
      memoryBytes,
      prefixCache: "off",
    });
    await engine.preload();
    submit(0, "base");
    submit(3, "other");
    await finish();
    expectSameBits(rows, new Map([0, 3].map((id) => [id, alone.get(id)!])));
    const stats = engine.stats();
    expect(stats.unloads).toBeGreaterThan(0);
    expect(stats.weightBytes + stats.kvBytes).toBeLessThanOrEqual(memoryBytes);
    await engine.close();
  });

  test("are refused with what is missing where one alone does not fit", async () => {
    const weights = await weightsOf(["other"]);
    await expect(changingEngine(source, ["base", "other"], { memoryBytes: weights })).rejects.toMatchObject({
      code: "memory_exceeded",
      message: expect.stringMatching(
        /needs \d+ bytes at least, \d+ of them for its weights; the limit is \d+, \d+ too little/,
      ),
    });
  });

  async function weightsOf(names: string[]): Promise<number> {
    const { engine } = await changingEngine(source, names);
    await engine.preload();
    const { weightBytes } = engine.stats();
    await engine.close();
    return weightBytes;
  }
});
