import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import type { BatchItem } from "../../src/engine/execute/executor.ts";
import { ScriptedExecutor } from "./scripted-executor.ts";
import type { EngineEvent } from "../../src/engine/request.ts";
import { scriptedModel } from "./scripted-model.ts";
import { SharingExecutor } from "./sharing-executor.ts";

const VOCABULARY = 32;
const MODELS = [
  scriptedModel({ name: "small", bytesPerToken: 8 }),
  scriptedModel({ name: "large", bytesPerToken: 24 }),
];
/** A page of the large model is 384 bytes. */
const LARGE_PAGE = 24 * 16;

interface Arrival {
  model: 0 | 1;
  tenant: number;
  prompt: number;
  maxTokens: number;
  /** Steps after the one before it. */
  delay: number;
  /** Steps until the client goes away; null: it stays. */
  patience: number | null;
}

const arrivals: fc.Arbitrary<Arrival[]> = fc.array(
  fc.record({
    model: fc.constantFrom(0 as const, 1 as const),
    tenant: fc.nat(3),
    prompt: fc.integer({ min: 1, max: 70 }),
    maxTokens: fc.integer({ min: 1, max: 60 }),
    delay: fc.nat(4),
    patience: fc.option(fc.nat(12), { freq: 6 }),
  }),
  { minLength: 1, maxLength: 25 },
);
const machine = fc.record({
  pages: fc.integer({ min: 2, max: 14 }),
  maxBatchTokens: fc.integer({ min: 17, max: 64 }),
  maxSequences: fc.integer({ min: 1, max: 12 }),
  maxQueue: fc.integer({ min: 4, max: 30 }),
  prefixCache: fc.constantFrom("on" as const, "off" as const),
  speculate: fc.constantFrom("off" as const, "always" as const, "auto" as const),
  shares: fc.integer({ min: 1, max: 3 }),
});

/**
 * A token that depends on everything before it, so that a wrong replay would show; the large model's mostly go round in
 * a circle, so that drafts are right for a while.
 */
function next(history: readonly number[], model: string): number {
  if (model === "large" && history.length % 11 > 0) return (history.at(-1)! + 1) % 4;
  return history.reduce((hash, token) => (hash * 31 + token + 7) % 1_000_003, history.length) % VOCABULARY;
}

function promptOf({ prompt }: Arrival, id: number): number[] {
  return Array.from({ length: prompt }, (_, at) => (id * 5 + at * 3) % VOCABULARY);
}

test("every request ends once, with its own tokens, and pages are never lost", async () => {
  await fc.assert(
    fc.asyncProperty(arrivals, machine, async (list, { pages, shares, ...knobs }) => {
      const events = new Map<number, EngineEvent[]>(list.map((_, id) => [id, []]));
      const executor = new WatchedExecutor({ vocabSize: VOCABULARY, bytesPerToken: 8, next }, shares);
      executor.pause = async (share, batch) => {
        for (let turn = 0; turn < (share * 5 + batch * 3) % 4; turn++) await nextTurn();
      };
      const config = engineConfig({ ...knobs, prefillChunk: 16, kvMemoryBytes: pages * LARGE_PAGE });
      const models = MODELS.map((model) => ({
        ...model,
        contextLength: Math.min(128, Math.floor((pages * LARGE_PAGE) / (model.bytesPerToken * 16)) * 16),
      }));
      const engine = new Engine({ executor, models, config, report: (id, event) => events.get(id)!.push(event) });

      let yields = 0;
      executor.beforeRun = () => {
        checkBatch(executor.inFlight, knobs.maxBatchTokens);
        const stats = engine.stats();
        if (stats.yields > yields) expect(stats.prefixBytes, "kept while a sequence had to yield").toBe(0);
        ({ yields } = stats);
      };
      const served = list
        .map((arrival, id) => ({ ...arrival, id }))
        .filter((one) => one.prompt < models[one.model]!.contextLength);
      await drive(engine, served, () => {
        engine.checkIntegrity();
        expect(executor.inFlight).toEqual([]);
      });

      expect(engine.stats()).toMatchObject({ queued: 0, running: 0, kvBytes: 0, stateBytes: 0 });
      for (const one of served) checkAnswer(events.get(one.id)!, one, models[one.model]!.contextLength);
    }),
    { numRuns: 150 },
  );
});

test.each(["off", "always"] as const)(
  "a tenant with little to ask is not held up by one with much, drafts %s",
  async (speculate) => {
    const order: number[] = [];
    const executor = new ScriptedExecutor({ vocabSize: VOCABULARY, bytesPerToken: 8, next });
    const config = engineConfig({ prefillChunk: 16, maxBatchTokens: 32, kvMemoryBytes: 2 ** 20, speculate });
    const report = (id: number, event: EngineEvent): void => void (event.type === "request-end" && order.push(id));
    const engine = new Engine({ executor, models: MODELS, config, report });
    const tokens = Array.from({ length: 64 }, () => 1);
    for (let id = 0; id < 40; id++) engine.submit(id, { model: "large", tokens, maxTokens: 12, tenant: "much" });
    for (let step = 0; step < 3; step++) await engine.step();
    engine.submit(99, { model: "large", tokens, maxTokens: 12, tenant: "little" });
    while (!engine.isIdle) await engine.step();
    expect(order.indexOf(99)).toBeLessThan(6);
    expect(order).toHaveLength(41);
  },
);

class WatchedExecutor extends SharingExecutor {
  beforeRun = (): void => {};

  override execute(items: BatchItem[]): Promise<Float32Array[]> {
    this.beforeRun();
    return super.execute(items);
  }
}

async function drive(engine: Engine, list: (Arrival & { id: number })[], afterStep: () => void): Promise<void> {
  const waiting = [...list];
  const leaving: { id: number; step: number }[] = [];
  let due = waiting[0]?.delay ?? 0;
  for (let step = 0; waiting.length > 0 || !engine.isIdle; step++) {
    expect(step).toBeLessThan(20_000);
    while (waiting[0] && step >= due) {
      const { id, model, tenant, maxTokens, patience, ...rest } = waiting.shift()!;
      const tokens = promptOf({ ...rest, model, tenant, maxTokens, patience }, id);
      engine.submit(id, {
        model: MODELS[model]!.name,
        tokens,
        maxTokens,
        tenant: `${tenant}`,
        sampling: { temperature: 0 },
      });
      if (patience !== null) leaving.push({ id, step: step + patience });
      due = step + (waiting[0]?.delay ?? 0);
    }
    for (const one of leaving) if (one.step === step) engine.cancel(one.id);
    await engine.step();
    afterStep();
  }
}

function checkBatch(items: BatchItem[], maxBatchTokens: number): void {
  const ends = new Map<number, number>();
  for (const { sequence, start, stepwise, tokens } of items) {
    // Several items of one sequence are chunks of its prompt, one behind the other.
    if (ends.has(sequence)) expect({ start, stepwise }).toEqual({ start: ends.get(sequence), stepwise: false });
    ends.set(sequence, start + tokens.length);
  }
  expect(items.reduce((sum, { tokens }) => sum + tokens.length, 0)).toBeLessThanOrEqual(maxBatchTokens);
  for (const { start, stepwise, tokens } of items) {
    // The grid: a prompt's chunk begins at a multiple of 16 and never crosses the next.
    if (!stepwise) expect(start % 16).toBe(0);
    expect(tokens.length).toBeLessThanOrEqual(16);
  }
}

function checkAnswer(events: EngineEvent[], arrival: Arrival & { id: number }, contextLength: number): void {
  const end = events.at(-1)!;
  expect(events.filter(({ type }) => type === "request-end")).toEqual([end]);
  if (end.type !== "request-end") throw new Error("unreachable");
  const tokens = events.flatMap((event) => (event.type === "token-delta" ? [event.token] : []));
  const history = promptOf(arrival, arrival.id);
  for (const token of tokens) {
    expect(token).toBe(next(history, MODELS[arrival.model]!.name));
    history.push(token);
  }
  expect(end).toMatchObject({ promptTokens: arrival.prompt, completionTokens: tokens.length });
  if (end.reason === "length") expect(tokens).toHaveLength(Math.min(arrival.maxTokens, contextLength - arrival.prompt));
  else if (end.reason === "error") expect(end.error?.code).toBe("queue_full");
  else expect([end.reason, arrival.patience === null]).toEqual(["cancelled", false]);
}
