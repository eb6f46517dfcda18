import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { BatchItem, Executor } from "../../src/engine/execute/executor.ts";
import { RoutedExecutor } from "../../src/engine/execute/routed-executor.ts";
import { ScriptedExecutor } from "./scripted-executor.ts";
import { deviceLost, outOfDeviceMemory, saysDeviceLost } from "../../src/engine/execute/webgpu/device-errors.ts";
import { WebgpuDevice } from "../../src/engine/execute/webgpu/webgpu-device.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { EngineEvent } from "../../src/engine/request.ts";
import type { ScheduledModel } from "../../src/engine/sequence.ts";
import { AWAY, FULL, LOST, makeDeviceLosable } from "./losing-device.ts";
import { scriptedModel } from "./scripted-model.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { missingWebgpu } from "./webgpu-here.ts";

/** Loses its device in the given calls of `execute`; its sequences are gone then, as on a device. */
class LosingExecutor extends ScriptedExecutor {
  readonly #losing: readonly number[];
  #calls = 0;

  constructor(losing: number[]) {
    super({ vocabSize: 32, bytesPerToken: 8, next: (history) => history.at(-1)! + 1 });
    this.#losing = losing;
  }

  override async execute(items: BatchItem[]): Promise<Float32Array[]> {
    if (this.#losing.includes(this.#calls++)) throw deviceLost(new Error(LOST));
    return await super.execute(items);
  }
}

test("a lost device ends every sequence that had begun on it, once, and those that wait are served after", async () => {
  const ends = new Map<number, string[]>();
  const tokens = new Map<number, number[]>();
  const report = (id: number, event: EngineEvent): void => {
    if (event.type === "token-delta") tokens.set(id, [...(tokens.get(id) ?? []), event.token]);
    else ends.set(id, [...(ends.get(id) ?? []), `${event.reason} ${event.error?.code ?? ""}`.trim()]);
  };
  const config = engineConfig({ prefillChunk: 16, maxBatchTokens: 17, maxSequences: 2 });
  const models = [scriptedModel({ name: "counts", byCapacity: true, stretches: [] })];
  const engine = new Engine({ executor: new LosingExecutor([3]), models, config, report });
  for (let id = 0; id < 4; id++)
    engine.submit(id, { model: "counts", tokens: [4, 5, 6], maxTokens: 6, sampling: { temperature: 0 } });
  while (!engine.isIdle) await engine.step();
  engine.checkIntegrity();

  expect([...ends.values()].every((reasons) => reasons.length === 1)).toBe(true);
  expect([ends.get(0), ends.get(1)]).toEqual([["error device_lost"], ["error device_lost"]]);
  expect([ends.get(2), ends.get(3)]).toEqual([["length"], ["length"]]);
  expect(tokens.get(3)).toEqual([7, 8, 9, 10, 11, 12]);
});

test("what drivers say is told apart", () => {
  const words = [
    "Device is lost.",
    LOST,
    "[Device] was lost: device lost",
    "vkQueueSubmit failed with VK_ERROR_DEVICE_LOST",
    "DXGI_ERROR_DEVICE_REMOVED",
  ];
  expect(words.map((text) => saysDeviceLost(new Error(text)))).toEqual([true, true, true, true, true]);
  expect(saysDeviceLost(new Error("Non-zero status code returned while running Add node"))).toBe(false);
  const full = outOfDeviceMemory(new Error("vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY"));
  expect(full?.code).toBe("memory_exceeded");
  expect(outOfDeviceMemory(new Error(FULL))?.code).toBe("memory_exceeded");
  expect(outOfDeviceMemory(new Error("Device is lost."))).toBeNull();
  const placed = `/onnxruntime_src/onnxruntime/core/x.cc:641 void f(int) const status == g() was false. ${LOST}\n\nmore`;
  expect(deviceLost(new Error(placed)).message).toBe(`the device stopped working: ${LOST}`);
});

test("what fails on a device does not end what runs on the CPU beside it", async () => {
  const script = { vocabSize: 32, bytesPerToken: 8, next: (history: readonly number[]) => history.at(-1)! + 1 };
  const executor = new RoutedExecutor(
    new Map<string, Executor>([
      ["device", new LosingExecutor([2])],
      ["host", new ScriptedExecutor(script)],
    ]),
  );
  const ends = new Map<number, string>();
  const report = (id: number, event: EngineEvent): void => {
    if (event.type === "request-end") ends.set(id, event.error?.code ?? event.reason);
  };
  const models = [
    scriptedModel({ name: "device", byCapacity: true, stretches: [] }),
    scriptedModel({ name: "host", stretches: [] }),
  ];
  const engine = new Engine({ executor, models, config: engineConfig(), report });
  for (const [id, { name }] of [...models, ...models].entries())
    engine.submit(id, { model: name, tokens: [4, 5, 6], maxTokens: 6, sampling: { temperature: 0 } });
  while (!engine.isIdle) await engine.step();
  engine.checkIntegrity();
  expect([...ends].toSorted(([a], [b]) => a - b)).toEqual([
    [0, "device_lost"],
    [1, "length"],
    [2, "device_lost"],
    [3, "length"],
  ]);
});

const missing = await missingWebgpu();

describe.skipIf(missing !== null)("on a WebGPU device", () => {
  const PROMPT = { tokens: [3, 1, 4, 1, 5], start: 0, logits: "last", stepwise: false } as const;
  const NEXT = { tokens: [9], start: 5, logits: "last", stepwise: true } as const;
  const losing = makeDeviceLosable();
  let source: TemporaryRepository;
  let executor: Executor;
  let models: ScheduledModel[];
  let expected: Float32Array;
  let last = 0;
  beforeAll(async () => {
    source = await temporaryRepository([
      { name: "one", layers: [10, 11] },
      { name: "other", layers: [20] },
    ]);
    const config = engineConfig({ device: "webgpu", threads: 1 });
    ({ executor, models } = await loadModels(source.repository, ["one", "other"], config));
    expected = await prompt(begin());
  }, 240_000);
  afterAll(async () => {
    await executor.close();
    await source.remove();
  });

  function begin(): number {
    executor.open(++last, { model: models[0]!.key, maxTokens: 32 });
    return last;
  }
  const run = async (item: Omit<BatchItem, "sequence">, sequence: number): Promise<Float32Array> =>
    (await executor.execute([{ ...item, sequence }]))[0]!.slice();
  const prompt = async (sequence: number): Promise<Float32Array> => await run(PROMPT, sequence);

  function endAll(): void {
    for (let sequence = 1; sequence <= last; sequence++) executor.release(sequence);
    expect(executor.stateBytes()).toBe(0);
  }

  test("the executor opens it anew and gives the bits it gave before", { timeout: 240_000 }, async () => {
    const [sequence, losses] = [begin(), executor.deviceLosses!];
    await prompt(sequence);
    losing.lose();
    await expect(run(NEXT, sequence)).rejects.toMatchObject({
      code: "device_lost",
      message: `the device stopped working: ${LOST}`,
    });
    await expect(run(NEXT, sequence), "its keys and values are gone").rejects.toMatchObject({ code: "device_lost" });
    await expect(prompt(begin()), "not all was ended").rejects.toMatchObject({ code: "device_lost" });
    endAll();
    expect(await prompt(begin())).toEqual(expected);
    expect(executor.deviceLosses).toBe(losses + 1);
  });

  test("nobody is told of one that was lost while nothing was on it", { timeout: 240_000 }, async () => {
    endAll();
    losing.lose();
    expect(await prompt(begin())).toEqual(expected);
  });

  test("one that stays away for a while is opened when it is there again", { timeout: 240_000 }, async () => {
    endAll();
    losing.lose();
    losing.away = true;
    for (let time = 0; time < 3; time++) {
      await expect(prompt(begin())).rejects.toMatchObject({
        code: "device_lost",
        message: `the device stopped working: ${AWAY}`,
      });
      for (const one of executor.needs.get(models[0]!.key)!) expect(one.isLoaded).toBe(true);
      endAll();
    }
    losing.away = false;
    expect(await prompt(begin())).toEqual(expected);
  });

  test("segments are loaded on one that was lost before", { timeout: 240_000 }, async () => {
    endAll();
    const own = new Set(executor.needs.get(models[0]!.key));
    const others = executor.needs.get(models[1]!.key)!.filter((one) => !own.has(one));
    const running = begin();
    await prompt(running);
    for (const one of others) await one.unload();
    losing.lose();
    losing.away = true;
    await expect(others[0]!.load()).rejects.toMatchObject({ code: "device_lost" });
    losing.away = false;
    for (const one of others) await one.load();
    await expect(run(NEXT, running)).rejects.toMatchObject({ code: "device_lost" });
    endAll();
    expect(await prompt(begin())).toEqual(expected);
  });

  test(
    "one that is full is opened anew once, and ends the batch when it is full again",
    { timeout: 240_000 },
    async () => {
      endAll();
      const losses = executor.deviceLosses;
      const reopen = vi.spyOn(WebgpuDevice.prototype, "reopen");
      const [running, fresh] = [begin(), begin()];
      await prompt(running);
      losing.full = 1;
      expect(await prompt(fresh), "given room").toEqual(expected);
      expect(reopen).toHaveBeenCalledTimes(1);
      losing.full = 1;
      await expect(prompt(begin())).rejects.toMatchObject({
        code: "memory_exceeded",
        message: `the device has no memory left: ${FULL}`,
      });
      executor.release(last);
      expect(await run(NEXT, running)).toEqual(await run(NEXT, fresh));
      const [segment] = executor.needs.get(models[1]!.key)!;
      await segment!.unload();
      losing.full = 1;
      await expect(segment!.load()).rejects.toMatchObject({ code: "memory_exceeded" });
      await segment!.load();
      vi.useFakeTimers({ now: Date.now(), toFake: ["performance"] });
      vi.advanceTimersByTime(120_000);
      await segment!.unload();
      losing.full = 1;
      await segment!.load();
      vi.useRealTimers();
      expect(reopen).toHaveBeenCalledTimes(2);
      expect(executor.deviceLosses).toBe(losses);
      expect(await prompt(begin())).toEqual(expected);
    },
  );
});
