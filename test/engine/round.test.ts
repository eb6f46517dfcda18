import { describe, expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { engineConfig, type EngineConfig } from "../../src/engine/engine-config.ts";
import type { EngineEvent, EngineRequest } from "../../src/engine/request.ts";
import { scriptedModel } from "./scripted-model.ts";
import { SharingExecutor } from "./sharing-executor.ts";

const SCRIPT = { vocabSize: 32, bytesPerToken: 8, next: (history: readonly number[]): number => history.length % 32 };
const REQUEST: EngineRequest = { model: "counts", tokens: [1, 2, 3], maxTokens: 100, sampling: { temperature: 0 } };
/** As src/engine/round.ts has it. */
const MOST_BATCHES = 32;

interface Round {
  engine: Engine;
  executor: SharingExecutor;
  tokens: (id: number) => number[];
  end: (id: number) => (EngineEvent & { type: "request-end" }) | undefined;
  /** How many batches the shares were given in the step, the first share of which is held up until the others went on. */
  batchesOf: (during?: (batch: number) => void) => Promise<[first: number, second: number]>;
}

/** Two sequences in two shares, their prompts read. */
async function round(knobs: Partial<EngineConfig> = {}, clock = { now: () => 0 }): Promise<Round> {
  const executor = new SharingExecutor(SCRIPT, 2);
  const events = new Map<number, EngineEvent[]>();
  const config = engineConfig({ prefillChunk: 16, maxBatchTokens: 32, speculate: "off", ...knobs });
  const report = (id: number, event: EngineEvent): void => void events.set(id, [...(events.get(id) ?? []), event]);
  const engine = new Engine({ executor, models: [scriptedModel({ name: "counts" })], config, report, clock });
  return {
    engine,
    executor,
    tokens: (id) => (events.get(id) ?? []).flatMap((event) => (event.type === "token-delta" ? [event.token] : [])),
    end: (id) => events.get(id)?.find((event) => event.type === "request-end"),
    batchesOf: async (during = () => {}) => {
      const before = executor.batches.map(({ length }) => length) as [number, number];
      const done = new Promise<void>((resolve) => {
        let idle = 0;
        let seen = 0;
        const look = (): void => {
          const count = executor.batches[1]!.length;
          idle = count === seen ? idle + 1 : 0;
          seen = count;
          if (idle > 5) resolve();
          else setImmediate(look);
        };
        look();
      });
      executor.pause = async (share) => {
        if (share === 0) return await done;
        during(executor.batches[1]!.length - before[1]);
      };
      await engine.step();
      return executor.batches.map(({ length }, share) => length - before[share]!) as [number, number];
    },
  };
}

describe("a share that is done before the others", () => {
  test("goes on with its sequences, until all are shared out anew", async () => {
    const { engine, batchesOf, tokens } = await round();
    engine.submit(0, REQUEST);
    engine.submit(1, REQUEST);
    expect(await batchesOf()).toEqual([1, MOST_BATCHES]);
    expect(tokens(0)).toEqual([3]);
    expect(tokens(1)).toEqual(Array.from({ length: MOST_BATCHES }, (_, at) => (3 + at) % 32));
    expect(engine.stats()).toMatchObject({ running: 2, generatedTokens: 1 + MOST_BATCHES });
    while (!engine.isIdle) await engine.step();
    expect(tokens(0)).toEqual(tokens(1));
    engine.checkIntegrity();
  });

  test("goes on while the others read a prompt", async () => {
    const { engine, batchesOf } = await round();
    engine.submit(1, REQUEST);
    await engine.step();
    engine.submit(2, { ...REQUEST, tokens: Array.from({ length: 16 }, () => 1) });
    expect(await batchesOf()).toEqual([1, MOST_BATCHES]);
  });

  test.each<[string, (engine: Engine, clock: { time: number }) => void]>([
    ["a request comes", (engine) => engine.submit(5, REQUEST)],
    ["a request is cancelled", (engine) => engine.cancel(0)],
    ["the time of one is over", (_, clock) => (clock.time = 1001)],
    ["models are to be changed", (engine) => void engine.adopt(EMPTY, 0)],
    ["the engine is to stop", (engine) => engine.stop()],
  ])("waits when %s", async (_, happen) => {
    const clock = { time: 0 };
    const { engine, batchesOf } = await round({}, { now: () => clock.time });
    engine.submit(0, { ...REQUEST, deadline: 1000 });
    engine.submit(1, REQUEST);
    expect(await batchesOf((batch) => batch === 4 && happen(engine, clock))).toEqual([1, 4]);
  });

  test("waits when one of its sequences has ended, or memory is not free for all", async () => {
    const first = await round();
    first.engine.submit(0, REQUEST);
    first.engine.submit(1, { ...REQUEST, maxTokens: 6 });
    expect(await first.batchesOf()).toEqual([1, 6]);

    const page = 8 * 16;
    const cramped = await round({ kvMemoryBytes: 3 * page });
    cramped.engine.submit(0, { ...REQUEST, maxTokens: 20 });
    cramped.engine.submit(1, { ...REQUEST, maxTokens: 40 });
    // Tokens 17 to 32 take the last page.
    expect(await cramped.batchesOf()).toEqual([1, 30]);
    while (!cramped.engine.isIdle) await cramped.engine.step();
    expect(cramped.tokens(1)).toHaveLength(40);
    cramped.engine.checkIntegrity();
  });

  test("waits while others that run have no turn in the step", async () => {
    const { engine, executor } = await round({ maxBatchTokens: 18, maxSequences: 20 });
    for (let id = 0; id < 20; id++) engine.submit(id, REQUEST);
    while (engine.stats().running < 20) await engine.step();
    for (let step = 0; step < 3; step++) {
      const before = executor.batches.map(({ length }) => length + 1);
      await engine.step();
      expect(executor.batches.map(({ length }) => length)).toEqual(before);
    }
  });

  test("does not go on where it is the only one", async () => {
    const { engine, executor } = await round();
    engine.submit(2, REQUEST);
    engine.submit(4, REQUEST);
    await engine.step();
    expect(executor.batches.map(({ length }) => length)).toEqual([1, 0]);
  });
});

test("a share that fails ends its sequences, and nobody else", async () => {
  const { engine, executor, end, tokens } = await round();
  for (const id of [0, 1, 2, 3]) engine.submit(id, { ...REQUEST, maxTokens: 8 });
  executor.pause = async (share, batch) => {
    if (share === 1 && batch === 3) throw new Error("no memory");
  };
  while (!engine.isIdle) await engine.step();
  for (const id of [1, 3]) expect(end(id)).toMatchObject({ reason: "error", completionTokens: 2 });
  for (const id of [0, 2]) expect(tokens(id)).toHaveLength(8);
  expect(engine.stats()).toMatchObject({ kvBytes: 0, stateBytes: 0, ended: { error: 2, length: 2 } });
});

const EMPTY = { models: [], needs: new Map(), stretches: new Map(), commit: async () => {} };
