import { describe, expect, test, vi } from "vitest";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { BatchItem } from "../../src/engine/execute/executor.ts";
import { ScriptedExecutor } from "../../src/engine/execute/scripted-executor.ts";
import { deviceLost, outOfDeviceMemory, saysDeviceLost } from "../../src/engine/execute/webgpu/device-errors.ts";
import { DeviceSession } from "../../src/engine/execute/webgpu/device-session.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { EngineEvent } from "../../src/engine/request.ts";
import { scriptedModel } from "./scripted-model.ts";
import { temporaryRepository } from "./temporary-repository.ts";
import { missingWebgpu } from "./webgpu-here.ts";

const LOST = new Error("WebGPU device is lost: the driver was reset");

/** Loses its device in the given calls of `execute`; its sequences are gone then, as on a device. */
class LosingExecutor extends ScriptedExecutor {
  readonly #losing: readonly number[];
  #calls = 0;

  constructor(losing: number[]) {
    super({ vocabSize: 32, bytesPerToken: 8, next: (history) => history.at(-1)! + 1 });
    this.#losing = losing;
  }

  override async execute(items: BatchItem[]): Promise<Float32Array[]> {
    if (this.#losing.includes(this.#calls++)) throw deviceLost(LOST);
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
    "[Device] was lost: device lost",
    "vkQueueSubmit failed with VK_ERROR_DEVICE_LOST",
    "DXGI_ERROR_DEVICE_REMOVED",
  ];
  expect(words.map((text) => saysDeviceLost(new Error(text)))).toEqual([true, true, true, true]);
  expect(saysDeviceLost(new Error("Non-zero status code returned while running Add node"))).toBe(false);
  const full = outOfDeviceMemory(new Error("vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY"));
  expect(full?.code).toBe("memory_exceeded");
  expect(outOfDeviceMemory(new Error("Device is lost."))).toBeNull();
});

const missing = await missingWebgpu();

describe.skipIf(missing !== null)("on a WebGPU device", () => {
  test("the executor opens it anew and gives the bits it gave before", { timeout: 240_000 }, async () => {
    const source = await temporaryRepository([{ name: "one", layers: [10, 11] }]);
    const config = engineConfig({ device: "webgpu", threads: 1 });
    const { executor, models } = await loadModels(source.repository, ["one"], config);
    const item = { tokens: [3, 1, 4, 1, 5], start: 0, logits: "last" as const, stepwise: false };
    const begin = (sequence: number): void => executor.open(sequence, { model: models[0]!.key, maxTokens: 32 });
    begin(1);
    const before = (await executor.execute([{ ...item, sequence: 1 }]))[0]!.slice();

    const run = vi.spyOn(DeviceSession.prototype, "run").mockRejectedValueOnce(LOST);
    const next = { sequence: 1, tokens: [9], start: 5, logits: "last" as const, stepwise: true };
    await expect(executor.execute([next])).rejects.toMatchObject({ code: "device_lost" });
    await expect(executor.execute([next]), "its keys and values are gone").rejects.toMatchObject({
      code: "device_lost",
    });
    executor.release(1);
    begin(2);
    expect((await executor.execute([{ ...item, sequence: 2 }]))[0]).toEqual(before);
    expect(executor.stateBytes()).toBeGreaterThan(0);
    run.mockRestore();
    await executor.close();
    await source.remove();
  });
});
