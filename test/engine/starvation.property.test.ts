import fc from "fast-check";
import { expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { ScriptedExecutor } from "./scripted-executor.ts";
import type { TenantPolicy } from "../../src/engine/request.ts";
import { AGEING_MS, PRIORITIES } from "../../src/engine/schedule/priority.ts";
import { scriptedModel } from "./scripted-model.ts";

const MODEL = scriptedModel({ name: "m", bytesPerToken: 8 });
const PAGE_BYTES = 8 * 16;
const STEP_MS = 1000;
const AGED_STEPS = (2 * AGEING_MS) / STEP_MS;
const RUSH = { prompt: 20, maxTokens: 12 };
/** Tokens computed again by who had to yield, and steps with room for one token only. */
const LOSS = 3;

const tenants = fc.record({
  a: policies(),
  b: policies(),
  c: policies(),
});
const arrivals = fc.array(
  fc.record({
    tenant: fc.constantFrom("a" as const, "b" as const, "c" as const),
    prompt: fc.integer({ min: 1, max: 50 }),
    maxTokens: fc.integer({ min: 1, max: 30 }),
    delay: fc.nat(20),
  }),
  { minLength: 1, maxLength: 8 },
);
const machines = fc.record({
  pages: fc.integer({ min: 6, max: 20 }),
  maxBatchTokens: fc.integer({ min: 17, max: 64 }),
  maxSequences: fc.integer({ min: 1, max: 6 }),
  rushWeight: fc.constantFrom(1, 4),
});

function policies(): fc.Arbitrary<Partial<TenantPolicy>> {
  return fc.record({
    priority: fc.constantFrom(...PRIORITIES),
    weight: fc.constantFrom(0.5, 1, 2),
    running: fc.constantFrom(null, 1, 2),
  });
}

test("every request ends within a bound, behind a tenant of the best class that never rests", async () => {
  await fc.assert(
    fc.asyncProperty(tenants, arrivals, machines, async (policy, list, { pages, rushWeight, ...knobs }) => {
      let now = 0;
      const done = new Map<number, number>();
      const config = engineConfig({ ...knobs, prefillChunk: 16, kvMemoryBytes: pages * PAGE_BYTES });
      const engine = new Engine({
        executor: new ScriptedExecutor({ vocabSize: 32, bytesPerToken: 8, next: (history) => history.length % 32 }),
        models: [{ ...MODEL, contextLength: 96 }],
        config,
        report: (id, event) => void (event.type === "request-end" && done.set(id, now / STEP_MS)),
        clock: { now: () => now },
      });
      const rush = { tenant: "rush", policy: { priority: "high", weight: rushWeight } as const };
      const began = new Map<number, number>();
      const waiting = list.map((one, id) => ({ ...one, id }));
      let due = waiting[0]!.delay;
      for (
        let step = 0, next = 1000;
        waiting.length > 0 || began.size > countEnded(began, done);
        step++, now += STEP_MS
      ) {
        expect(step, "steps").toBeLessThan(20_000);
        while (waiting[0] && step >= due) {
          const { id, tenant, prompt, maxTokens } = waiting.shift()!;
          engine.submit(id, { model: "m", tokens: tokensOf(prompt), maxTokens, tenant, policy: policy[tenant] });
          began.set(id, step);
          due = step + (waiting[0]?.delay ?? 0);
        }
        while (engine.stats().queued < 4) {
          engine.submit(next++, { model: "m", tokens: tokensOf(RUSH.prompt), maxTokens: RUSH.maxTokens, ...rush });
        }
        await engine.step();
        engine.checkIntegrity();
      }
      const weightOf = (tenant: "a" | "b" | "c"): number => policy[tenant].weight!;
      const allWeights = rushWeight + weightOf("a") + weightOf("b") + weightOf("c");
      for (const [id, { tenant }] of list.entries()) {
        const own = list
          .filter((one) => one.tenant === tenant)
          .reduce((sum, one) => sum + one.prompt + one.maxTokens, 0);
        const share = weightOf(tenant) / allWeights;
        const bound = AGED_STEPS + LOSS * ((own + RUSH.prompt + RUSH.maxTokens) / share);
        expect(done.get(id)! - began.get(id)!, `steps of ${id}`).toBeLessThanOrEqual(bound);
      }
    }),
    { numRuns: 100 },
  );
});

test("until it has aged, a worse class waits for all of a better one", async () => {
  const order: number[] = [];
  let now = 0;
  const engine = new Engine({
    executor: new ScriptedExecutor({ vocabSize: 32, bytesPerToken: 8, next: () => 1 }),
    models: [MODEL],
    config: engineConfig({ prefillChunk: 16, maxBatchTokens: 17, maxSequences: 1, kvMemoryBytes: 2 ** 16 }),
    report: (id, event) => void (event.type === "request-end" && order.push(id)),
    clock: { now: () => (now += 10) },
  });
  const submit = (id: number, priority: TenantPolicy["priority"]): void =>
    engine.submit(id, { model: "m", tokens: [1, 2], maxTokens: 4, tenant: priority, policy: { priority } });
  submit(1, "low");
  await engine.step();
  for (const id of [2, 3]) submit(id, "normal");
  for (const id of [4, 5]) submit(id, "high");
  while (!engine.isIdle) await engine.step();
  expect(order).toEqual([4, 5, 2, 3, 1]);
});

test("a class that has aged gets its share from then on, not all that it had missed", async () => {
  let now = 0;
  const ended = { rush: 0, low: 0 };
  const engine = new Engine({
    executor: new ScriptedExecutor({ vocabSize: 32, bytesPerToken: 8, next: () => 1 }),
    models: [MODEL],
    config: engineConfig({ prefillChunk: 16, maxBatchTokens: 17, maxSequences: 2, prefixCache: "off" }),
    report: (id, event) => void (event.type === "request-end" && ended[id < 1000 ? "low" : "rush"]++),
    clock: { now: () => now },
  });
  const submit = (id: number, tenant: "rush" | "low"): void => {
    const priority = tenant === "low" ? "low" : "high";
    engine.submit(id, { model: "m", tokens: tokensOf(16), maxTokens: 4, tenant, policy: { priority } });
  };
  for (let id = 0; id < 200; id++) submit(id, "low");
  for (let step = 0, id = 1000; step < 300; step++, now += STEP_MS) {
    while (engine.stats().queued < 205) submit(id++, "rush");
    await engine.step();
    if (step === AGED_STEPS) Object.assign(ended, { rush: 0, low: 0 });
  }
  expect(ended.low / (ended.low + ended.rush)).toBeGreaterThan(0.4);
  expect(ended.low / (ended.low + ended.rush)).toBeLessThan(0.6);
});

test("tenants of a class get tokens in proportion to their weights", async () => {
  const tokens = new Map([
    ["light", 0],
    ["heavy", 0],
  ]);
  const nameOf = (id: number): string => (id % 2 === 0 ? "light" : "heavy");
  const engine = new Engine({
    executor: new ScriptedExecutor({ vocabSize: 32, bytesPerToken: 8, next: () => 1 }),
    models: [MODEL],
    config: engineConfig({
      prefillChunk: 16,
      maxBatchTokens: 17,
      maxSequences: 4,
      speculate: "off",
      prefixCache: "off",
    }),
    report: (id, event) => {
      if (event.type === "request-end") tokens.set(nameOf(id), tokens.get(nameOf(id))! + 40);
    },
  });
  for (let id = 0; id < 120; id++) {
    const policy = { weight: id % 2 === 0 ? 1 : 3 };
    engine.submit(id, { model: "m", tokens: tokensOf(32), maxTokens: 8, tenant: nameOf(id), policy });
  }
  for (let step = 0; step < 100; step++) await engine.step();
  expect(tokens.get("heavy")! / tokens.get("light")!).toBeGreaterThan(2.4);
  expect(tokens.get("heavy")! / tokens.get("light")!).toBeLessThan(3.6);
});

test("a tenant runs as many at once as it may, and holds nobody else up", async () => {
  const engine = new Engine({
    executor: new ScriptedExecutor({ vocabSize: 32, bytesPerToken: 8, next: () => 1 }),
    models: [MODEL],
    config: engineConfig({ prefillChunk: 16, maxBatchTokens: 64 }),
    report: () => {},
  });
  for (let id = 0; id < 6; id++)
    engine.submit(id, { model: "m", tokens: [1], maxTokens: 50, tenant: "a", policy: { running: 2 } });
  for (let id = 6; id < 9; id++) engine.submit(id, { model: "m", tokens: [1], maxTokens: 50, tenant: "b" });
  for (let step = 0; step < 3; step++) await engine.step();
  expect(engine.stats()).toMatchObject({ running: 5, queued: 4 });
});

function tokensOf(count: number): number[] {
  return Array.from({ length: count }, (_, at) => at % 32);
}

function countEnded(began: Map<number, number>, done: Map<number, number>): number {
  return [...began.keys()].filter((id) => done.has(id)).length;
}
