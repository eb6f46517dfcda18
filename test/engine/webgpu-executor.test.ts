import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { planChains, type Plan } from "../../src/chain/plan.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { ChainExecutor } from "../../src/engine/execute/chain-executor.ts";
import { SessionPool } from "../../src/engine/execute/session-pool.ts";
import type { Executor } from "../../src/engine/execute/executor.ts";
import type { WebgpuExecutor } from "../../src/engine/execute/webgpu/webgpu-executor.ts";
import { WebgpuRunner } from "../../src/engine/runners/webgpu-runner.ts";
import { describeExecutor } from "./executor.conformance.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { TINY, type TinyModel } from "./tiny-model.ts";
import { missingWebgpu } from "./webgpu-here.ts";

// Shaders are compiled for the processor: seconds on a quiet machine, many times that on a busy one.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODELS: TinyModel[] = [
  { name: "one", layers: [10, 11] },
  { name: "other", layers: [10, 21] },
  { name: "windowed", layers: [10, 11], shape: { core: { window: 9 } } },
  { name: "capped", layers: [10, 11], shape: { core: { softcap: 3 } } },
  { name: "sinking", layers: [10, 11], shape: { core: { sinks: [0.5, -1, 2, 0] } } },
];
/** SwiftShader's tanh is right to three digits only. */
const LIMITS: Record<string, number> = { capped: 0.1 };
const missing = await missingWebgpu();

async function planOf(source: TemporaryRepository, names: string[]) {
  return planChains(
    await Promise.all(names.map(async (name) => (await resolveChain(source.repository, name)) as BlockChain)),
  );
}

async function onDevice({ repository }: TemporaryRepository, plan: Plan): Promise<WebgpuExecutor> {
  const prepared = await new WebgpuRunner(repository, { device: "webgpu", maxBatchTokens: 256 }).prepare(
    plan.chains.map(({ chain }) => chain),
  );
  for (const sessions of prepared.needs.values()) for (const session of sessions) await session.load();
  return (await prepared.commit()) as WebgpuExecutor;
}

describe.skipIf(missing !== null)("on a WebGPU device", () => {
  describeExecutor("a plan of chains", async () => {
    const source = await temporaryRepository(MODELS.slice(0, 2));
    const plan = await planOf(source, ["one", "other"]);
    const executor = await onDevice(source, plan);
    const models = plan.chains.map(({ chain }) => chain.key) as [string, string];
    const close = async (): Promise<void> => {
      await executor.close();
      await source.remove();
    };
    return { executor, models, vocabSize: TINY.vocab, truncates: true, readsState: false, close };
  });

  describe("beside the CPU", () => {
    const names = MODELS.map(({ name }) => name);
    let source: TemporaryRepository;
    let device: WebgpuExecutor;
    let host: ChainExecutor;
    let keys: ReadonlyMap<string, string>;
    let nextSequence = 1;
    beforeAll(async () => {
      source = await temporaryRepository(MODELS);
      const plan = await planOf(source, names);
      keys = new Map(plan.chains.map(({ chain }) => [chain.name, chain.key]));
      device = await onDevice(source, plan);
      const sessions = await SessionPool.load(plan.segments, source.repository, 1);
      host = await ChainExecutor.over(plan, source.repository, { sessions, threads: 1 });
    });
    afterAll(async () => {
      await device.close();
      await host.close();
      await source.remove();
    });

    function begin(name: string): number {
      const model = keys.get(name)!;
      for (const executor of [device, host]) executor.open(nextSequence, { model, maxTokens: 512 });
      return nextSequence++;
    }

    test("gives the CPU's logits through chunks, decoding and growing caches, for every kind of core", async () => {
      const sequences = names.map((name, at) => ({ id: begin(name), cached: 0, prompt: 30 + 45 * at }));
      for (let step = 0; step < 9; step++) {
        const items = sequences.map((one) => {
          const count = one.cached < one.prompt ? Math.min(64, one.prompt - one.cached) : 1;
          const tokens = Array.from({ length: count }, (_, at) => (one.id * 7 + (one.cached + at) * 5) % TINY.vocab);
          const item = {
            sequence: one.id,
            tokens,
            start: one.cached,
            logits: "last" as const,
            stepwise: one.cached >= one.prompt,
          };
          one.cached += count;
          return item;
        });
        const [given, expected] = [await device.execute(items), await host.execute(items)];
        given.forEach((logits, at) =>
          expect(largestDifference(logits, expected[at]!), names[at]).toBeLessThan(LIMITS[names[at]!] ?? 1e-4),
        );
        device.checkIntegrity();
      }
      for (const { id } of sequences) for (const executor of [device, host]) executor.release(id);
      expect(device.deviceBytes()).toBe(0);
    });

    test("keeps every sequence's rows while others come, grow, leave and their memory is moved", async () => {
      const open = new Map<number, number>();
      const run = async (executor: Executor, id: number, start: number, count: number) =>
        await executor.execute([
          {
            sequence: id,
            tokens: Array.from({ length: count }, (_, at) => (id * 3 + start + at) % TINY.vocab),
            start,
            logits: "last",
            stepwise: start > 0,
          },
        ]);
      for (let turn = 0; turn < 20; turn++) {
        if (turn < 11) open.set(begin("one"), 0);
        const leaving = turn > 8 ? [...open.keys()][(turn * 5) % open.size] : undefined;
        for (const [id, cached] of open) {
          const count = cached === 0 ? 3 + (id % 5) : 1;
          if (cached > 0 && (turn + id) % 3 > 0 && id !== leaving) continue;
          const [[given], [expected]] = [await run(device, id, cached, count), await run(host, id, cached, count)];
          expect(largestDifference(given!, expected!), `sequence ${id} in turn ${turn}`).toBeLessThan(1e-4);
          open.set(id, cached + count);
        }
        if (leaving !== undefined) {
          for (const executor of [device, host]) executor.release(leaving);
          open.delete(leaving);
        }
        device.checkIntegrity();
      }
      for (const id of open.keys()) for (const executor of [device, host]) executor.release(id);
      expect(device.deviceBytes()).toBe(0);
    });
  });
});

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, at) => Math.max(most, Number.isNaN(value) ? Infinity : Math.abs(value - b[at]!)), 0);
}
