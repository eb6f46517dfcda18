import { describe, expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { engineConfig, type EngineConfig } from "../../src/engine/engine-config.ts";
import { ScriptedExecutor } from "./scripted-executor.ts";
import type { BatchItem } from "../../src/engine/execute/executor.ts";
import type { EngineEvent, EngineRequest } from "../../src/engine/request.ts";
import type { Clock } from "../../src/support/clock.ts";
import { scriptedModel } from "./scripted-model.ts";

const SCRIPT = { vocabSize: 32, bytesPerToken: 8, next: (history: readonly number[]): number => history.at(-1)! + 1 };
const REQUEST: EngineRequest = { model: "counts", tokens: [4, 5, 6], maxTokens: 4, sampling: { temperature: 0 } };

interface Harness {
  engine: Engine;
  /** Tokens of a request, then its end. */
  answer: (id: number) => (number | (EngineEvent & { type: "request-end" }))[];
  finish: () => Promise<void>;
}

function harness(
  executor = new ScriptedExecutor(SCRIPT),
  knobs: Partial<EngineConfig> = {},
  clock: Clock = { now: () => 0 },
): Harness {
  const events = new Map<number, EngineEvent[]>();
  const config = engineConfig({ prefillChunk: 16, maxBatchTokens: 32, ...knobs });
  const report = (id: number, event: EngineEvent): void => void events.set(id, [...(events.get(id) ?? []), event]);
  const models = [scriptedModel({ name: "counts", endTokens: [9] })];
  const engine = new Engine({ executor, models, config, report, clock });
  return {
    engine,
    answer: (id) => (events.get(id) ?? []).map((event) => (event.type === "token-delta" ? event.token : event)),
    finish: async () => {
      while (!engine.isIdle) await engine.step();
      engine.checkIntegrity();
    },
  };
}

function end(reason: string, completionTokens: number): object {
  return { type: "request-end", reason, promptTokens: 3, completionTokens, waited: expect.any(Object) };
}

describe("a request ends", () => {
  test.each<[string, Partial<EngineRequest>, unknown[]]>([
    ["stop at the model's end token, which is not given", {}, [7, 8, end("stop", 2)]],
    ["length at its limit", { maxTokens: 2 }, [7, 8, end("length", 2)]],
    ["length after an end token it is to ignore", { ignoreEnd: true }, [7, 8, 9, 10, end("length", 4)]],
    ["stop at its own stop token", { stopTokens: [8] }, [7, end("stop", 1)]],
    ["stop with no token at all", { stopTokens: [7] }, [end("stop", 0)]],
  ])("with %s", async (_, more, expected) => {
    const { engine, answer, finish } = harness();
    engine.submit(1, { ...REQUEST, ...more });
    await finish();
    expect(answer(1)).toEqual(expected);
  });

  test("with length where the context ends", async () => {
    const wrapping = new ScriptedExecutor({ ...SCRIPT, next: () => 2 });
    const { engine, answer, finish } = harness(wrapping);
    engine.submit(1, { ...REQUEST, maxTokens: 1000 });
    await finish();
    expect(answer(1).at(-1)).toEqual(end("length", 125));
  });

  test("with cancelled, waiting or running", async () => {
    const { engine, answer, finish } = harness(undefined, { maxSequences: 1 });
    for (const id of [1, 2, 3]) engine.submit(id, REQUEST);
    await engine.step();
    engine.cancel(1);
    engine.cancel(2);
    engine.cancel(77);
    await finish();
    expect([answer(1), answer(2), answer(3)]).toEqual([
      [7, end("cancelled", 1)],
      [end("cancelled", 0)],
      [7, 8, end("stop", 2)],
    ]);
  });

  test("with deadline where its time is over, or with an error where it has no token yet", async () => {
    let now = 100;
    const { engine, answer, finish } = harness(undefined, { maxSequences: 1 }, { now: () => now });
    engine.submit(1, { ...REQUEST, deadline: 150 });
    engine.submit(2, { ...REQUEST, deadline: 149 });
    engine.submit(3, REQUEST);
    await engine.step();
    now = 150;
    await finish();
    expect(answer(1)).toEqual([expect.objectContaining({ reason: "error" })]);
    expect(answer(2)).toEqual([7, end("deadline", 1)]);
    expect(answer(3)).toEqual([7, 8, end("stop", 2)]);
    const [ending] = answer(1) as (EngineEvent & { type: "request-end" })[];
    expect(ending!.error).toMatchObject({ code: "deadline_exceeded", message: expect.stringContaining("50 ms") });
  });

  test("with cancelled at close", async () => {
    const { engine, answer } = harness();
    engine.submit(1, REQUEST);
    await engine.close();
    expect(answer(1)).toEqual([end("cancelled", 0)]);
    expect(engine.stats().ended).toEqual({ stop: 0, length: 0, deadline: 0, cancelled: 1, error: 0 });
  });
});

describe("an error ends", () => {
  test("all that were in the step when the executor fails, and nobody else", async () => {
    let failures = 1;
    class FailingExecutor extends ScriptedExecutor {
      override execute(items: Parameters<ScriptedExecutor["execute"]>[0]): Promise<Float32Array[]> {
        return failures-- === 1 ? Promise.reject(new Error("no memory")) : super.execute(items);
      }
    }
    const { engine, answer, finish } = harness(new FailingExecutor(SCRIPT), { maxSequences: 1 });
    engine.submit(1, REQUEST);
    engine.submit(2, REQUEST);
    await finish();
    expect(answer(1)).toEqual([
      {
        ...end("error", 0),
        error: expect.objectContaining({ code: "engine_failed", message: expect.stringContaining("no memory") }),
      },
    ]);
    expect(answer(2)).toEqual([7, 8, end("stop", 2)]);
  });

  test("only the sequence whose logits are no numbers", async () => {
    class PartlyBroken extends ScriptedExecutor {
      override async execute(items: Parameters<ScriptedExecutor["execute"]>[0]): Promise<Float32Array[]> {
        const logits = await super.execute(items);
        items.forEach((item, index) => item.sequence === 1 && logits[index]!.fill(NaN));
        return logits;
      }
    }
    const { engine, answer, finish } = harness(new PartlyBroken(SCRIPT));
    engine.submit(1, REQUEST);
    engine.submit(2, REQUEST);
    await finish();
    expect(answer(1)).toEqual([
      expect.objectContaining({ reason: "error", error: expect.objectContaining({ code: "engine_failed" }) }),
    ]);
    expect(answer(2)).toEqual([7, 8, end("stop", 2)]);
  });

  test("a request that finds the queue full", async () => {
    const { engine, answer, finish } = harness(undefined, { maxQueue: 1 });
    engine.submit(1, REQUEST);
    engine.submit(2, REQUEST);
    await finish();
    expect(answer(2)).toEqual([{ ...end("error", 0), error: expect.objectContaining({ code: "queue_full" }) }]);
    expect(answer(1)).toEqual([7, 8, end("stop", 2)]);
  });
});

test("steps, tokens and ends are counted", async () => {
  // A chunk in each step.
  const { engine, finish } = harness(undefined, { maxBatchTokens: 17 });
  engine.submit(1, { ...REQUEST, tokens: Array.from({ length: 40 }, () => 2), maxTokens: 3 });
  await finish();
  expect(engine.stats()).toMatchObject({
    promptTokens: 40,
    generatedTokens: 3,
    replayedTokens: 0,
    yields: 0,
    ended: { stop: 0, length: 1, cancelled: 0, error: 0 },
    steps: { count: 5 },
  });
});

describe("rows that nobody else wants", () => {
  const prompt = (length: number): number[] => Array.from({ length }, () => 2);

  class WatchedExecutor extends ScriptedExecutor {
    readonly batches: [sequence: number, start: number, rows: number][][] = [];
    failure: Error | null = null;

    override execute(items: BatchItem[]): Promise<Float32Array[]> {
      this.batches.push(items.map(({ sequence, start, tokens }) => [sequence, start, tokens.length]));
      return this.failure ? Promise.reject(this.failure) : super.execute(items);
    }
  }

  test("go to further chunks of prompts, in turns, on the same grid", async () => {
    const executor = new WatchedExecutor(SCRIPT);
    const { engine, finish } = harness(executor, { maxBatchTokens: 64 });
    engine.submit(1, { ...REQUEST, tokens: prompt(70), maxTokens: 1 });
    engine.submit(2, { ...REQUEST, tokens: prompt(24), maxTokens: 1 });
    await finish();
    expect(executor.batches).toEqual([
      [
        [1, 0, 16],
        [2, 0, 16],
        [1, 16, 16],
        [2, 16, 8],
      ],
      [
        [1, 32, 16],
        [1, 48, 16],
        [1, 64, 6],
      ],
    ]);
  });

  test("end a request once where a step of several of its chunks fails", async () => {
    const executor = new WatchedExecutor(SCRIPT);
    executor.failure = new Error("no room");
    const { engine, answer, finish } = harness(executor, { maxBatchTokens: 64 });
    engine.submit(1, { ...REQUEST, tokens: prompt(60) });
    await finish();
    expect(executor.batches).toHaveLength(1);
    expect(answer(1)).toEqual([expect.objectContaining({ type: "request-end", reason: "error" })]);
  });
});

test("who had to yield takes no place in the queue from those who come", async () => {
  const page = 8 * 16;
  const repeating = new ScriptedExecutor({ ...SCRIPT, next: () => 2 });
  const { engine, answer, finish } = harness(repeating, { kvMemoryBytes: 3 * page, maxQueue: 1, speculate: "off" });
  const long = { ...REQUEST, maxTokens: 30 };
  engine.submit(1, long);
  await engine.step();
  engine.submit(2, long);
  while (engine.stats().yields === 0) await engine.step();
  expect(engine.stats().queued).toBe(1);
  engine.submit(3, long);
  engine.submit(4, long);
  await finish();
  for (const id of [1, 2, 3]) expect(answer(id).at(-1)).toEqual(end("length", 30));
  expect(answer(4)).toEqual([
    expect.objectContaining({ reason: "error", error: expect.objectContaining({ code: "queue_full" }) }),
  ]);
});
