import { Tensor } from "onnxruntime-node";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { BatchItem } from "../../src/engine/execute/executor.ts";
import { SeededRandom } from "../../src/engine/execute/random.ts";
import { DeviceSession } from "../../src/engine/execute/webgpu/device-session.ts";
import { DeviceTensors } from "../../src/engine/execute/webgpu/device-tensors.ts";
import { WebgpuDevice } from "../../src/engine/execute/webgpu/webgpu-device.ts";
import type { WebgpuExecutor } from "../../src/engine/execute/webgpu/webgpu-executor.ts";
import { WebgpuRunner } from "../../src/engine/runners/webgpu-runner.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import type { BlockChain } from "../../src/chain/chain.ts";
import { TESTS_ALL } from "../blocks/split-fixtures.ts";
import { recordingEngine } from "./serve-recorded.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { missingWebgpu } from "./webgpu-here.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 240_000 });
const missing = await missingWebgpu();

const SEQUENCES = TESTS_ALL ? 240 : 120;
const AT_ONCE = 12;
/** Spare tensors that are kept for later calls. */
const MOST_SPARE = 64;

describe.skipIf(missing !== null)("a WebGPU device over a long time", () => {
  let source: TemporaryRepository;
  beforeEach(async () => {
    source = await temporaryRepository([
      { name: "one", layers: [10] },
      { name: "other", layers: [20] },
    ]);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await source.remove();
  });

  async function executorOf(names: string[]): Promise<{ executor: WebgpuExecutor; keys: string[] }> {
    const chains = await Promise.all(
      names.map(async (name) => (await resolveChain(source.repository, name)) as BlockChain),
    );
    const runner = new WebgpuRunner(source.repository, { device: "webgpu", maxBatchTokens: 256 });
    const prepared = await runner.prepare(chains);
    for (const sessions of prepared.needs.values()) for (const session of sessions) await session.load();
    return { executor: (await prepared.commit()) as WebgpuExecutor, keys: chains.map(({ key }) => key) };
  }

  test("holds nothing of hundreds of sequences that came, grew, were cut and went", async () => {
    const { executor, keys } = await executorOf(["one", "other"]);
    const made = new Set<Tensor>();
    for (const name of ["zeros", "gather", "upload"]) noteGiven(DeviceTensors.prototype, name, made);
    noteGiven(DeviceSession.prototype, "run", made);

    const random = new SeededRandom(7);
    const below = (count: number): number => Math.floor(random.next() * count);
    const cached = new Map<number, number>();
    let opened = 0;
    while (opened < SEQUENCES || cached.size > 0) {
      while (opened < SEQUENCES && cached.size < AT_ONCE) {
        executor.open(++opened, { model: keys[opened % 2]!, maxTokens: 200 });
        cached.set(opened, 0);
      }
      const items: BatchItem[] = [...cached].map(([sequence, start]) => {
        const count = start === 0 ? 1 + below(40) : 1 + below(3);
        const tokens = Array.from({ length: count }, (_, at) => (sequence + at) % 20);
        return { sequence, tokens, start, logits: "last", stepwise: start > 0 };
      });
      await executor.execute(items);
      for (const { sequence, start, tokens } of items) {
        const end = start + tokens.length;
        const what = below(6);
        if (what < 3 || end > 60) {
          executor.release(sequence);
          cached.delete(sequence);
        } else {
          const kept = what === 3 ? Math.max(1, end - 1 - below(end)) : end;
          executor.truncate(sequence, kept);
          cached.set(sequence, kept);
        }
      }
      executor.checkIntegrity();
    }
    expect(opened).toBe(SEQUENCES);
    expect([executor.stateBytes(), executor.deviceBytes()]).toEqual([0, 0]);
    expect(made.size).toBeGreaterThan(SEQUENCES);
    const onDevice = [...made].filter(({ location }) => location === "gpu-buffer");
    expect(onDevice.length).toBeLessThanOrEqual(MOST_SPARE);
    await executor.close();
    expect([...made].filter(({ location }) => location === "gpu-buffer")).toEqual([]);
  });

  test("gives back what unloaded segments take, and keeps running sequences to the bit", async () => {
    const { executor, keys } = await executorOf(["one", "other"]);
    const steps = async (sequence: number, pause: () => Promise<void>): Promise<number[][]> => {
      executor.open(sequence, { model: keys[0]!, maxTokens: 64 });
      const rows: number[][] = [];
      const item = { sequence, logits: "last" as const };
      const [first] = await executor.execute([{ ...item, tokens: [3, 1, 4, 1, 5], start: 0, stepwise: false }]);
      rows.push([...first!]);
      for (let at = 5; at < 8; at++) {
        await pause();
        const [row] = await executor.execute([{ ...item, tokens: [at], start: at, stepwise: true }]);
        rows.push([...row!]);
      }
      return rows;
    };
    const expected = await steps(1, async () => {});
    const reopen = vi.spyOn(WebgpuDevice.prototype, "reopen");
    const own = new Set(executor.needs.get(keys[0]!)!.map(({ key }) => key));
    const others = executor.needs.get(keys[1]!)!.filter(({ key }) => !own.has(key));
    expect(others.length).toBeGreaterThan(0);
    const given = await steps(2, async () => {
      for (const one of others) {
        await one.load();
        await one.unload();
      }
      expect(executor.device.keptBytes).toBeGreaterThan(0);
    });
    expect(given).toEqual(expected);
    expect(reopen).toHaveBeenCalled();
    executor.checkIntegrity();
    await others[0]!.load();
    await others[0]!.unload();
    await executor.whileIdle();
    expect(executor.device.keptBytes).toBe(0);
    expect(await steps(3, async () => {})).toEqual(expected);
    await executor.close();
  });

  test("ends a sequence whose keys and values did not come back, and serves the next one", async () => {
    const { executor, keys } = await executorOf(["one", "other"]);
    const first = async (sequence: number): Promise<number[]> => {
      executor.open(sequence, { model: keys[0]!, maxTokens: 64 });
      const item = { sequence, tokens: [3, 1, 4], start: 0, logits: "last" as const, stepwise: false };
      return [...(await executor.execute([item]))[0]!];
    };
    const expected = await first(1);
    vi.spyOn(DeviceTensors, "open").mockRejectedValueOnce(new Error("no memory for it"));
    for (const one of executor.needs.get(keys[1]!)!) {
      await one.load();
      await one.unload();
    }
    const next = { sequence: 1, tokens: [1], start: 3, logits: "last" as const, stepwise: true };
    for (let time = 0; time < 2; time++)
      await expect(executor.execute([next])).rejects.toMatchObject({ code: "device_lost" });
    executor.release(1);
    for (const one of executor.needs.get(keys[0]!)!) await one.load();
    expect(await first(2)).toEqual(expected);
    await executor.close();
  });

  test("verifies drafts with the bits of single tokens", async () => {
    const request = {
      model: "one",
      tokens: Array.from({ length: 24 }, (_, at) => at % 3),
      maxTokens: 24,
      sampling: { temperature: 0 },
      ignoreEnd: true,
    };
    const engine = await recordingEngine(source.repository, ["one"], { device: "webgpu", threads: 1 });
    const plain = await engine.run([[1, request]], { speculate: "off" });
    const drafted = await engine.run([[1, request]], { speculate: "always" });
    expect(drafted.tokens).toEqual(plain.tokens);
    expect(drafted.rows).toEqual(plain.rows);
    expect(drafted.stats.draftedTokens).toBeGreaterThan(0);
    expect(plain.stats.draftedTokens).toBe(0);
    await engine.close();
  });
});

/** The method does what it did, and the tensors that it gives, one or by name, are noted. */
function noteGiven(owner: object, name: string, made: Set<Tensor>): void {
  const method = Reflect.get(owner, name) as (...args: unknown[]) => Promise<Tensor | Record<string, Tensor>>;
  vi.spyOn(owner as Record<string, typeof method>, name).mockImplementation(async function (this: unknown, ...args) {
    const given = await method.apply(this, args);
    for (const tensor of given instanceof Tensor ? [given] : Object.values(given)) made.add(tensor);
    return given;
  });
}
