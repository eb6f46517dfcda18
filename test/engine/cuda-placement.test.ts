import { InferenceSession } from "onnxruntime-node";
import { describe, expect, test, vi } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { planChains } from "../../src/chain/plan.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { cudaError } from "../../src/engine/execute/cuda-errors.ts";
import { runtimeOptions } from "../../src/engine/execute/runtime-options.ts";
import type { SessionPlace } from "../../src/engine/execute/segment-session.ts";
import { plannedBytes } from "../../src/engine/memory/planned-bytes.ts";
import { placement } from "../../src/engine/runners/cuda-placement.ts";
import { HostRunner } from "../../src/engine/runners/host-runner.ts";
import { splitFixtures } from "../blocks/split-fixtures.ts";
import { describeExecutor } from "./executor.conformance.ts";
import { temporaryRepository } from "./temporary-repository.ts";
import { TINY } from "./tiny-model.ts";

/** CUDA's libraries are on no machine that tests: what runs there runs on the CPU here, everything around it is the same. */
describeExecutor("segments placed on two devices", async () => {
  const source = await temporaryRepository([
    { name: "one", layers: [10, 11] },
    { name: "other", layers: [10, 21] },
  ]);
  const chains = await Promise.all(
    ["one", "other"].map(async (name) => (await resolveChain(source.repository, name)) as BlockChain),
  );
  const placed = new Set<string>();
  const runner = new HostRunner(source.repository, {
    threads: 1,
    from: async () => ({
      threads: 1,
      maxBatchTokens: 256,
      placed: ({ id }) => {
        const name = `cuda:${id % 2}`;
        placed.add(name);
        const options = (folder?: string) => runtimeOptions(1, folder);
        return { name, options, sharing: null, diagnose: () => null, isLost: () => false };
      },
    }),
  });
  const prepared = await runner.prepare(chains);
  for (const sessions of prepared.needs.values()) for (const session of sessions) await session.load();
  if (placed.size !== 2) throw new Error(`Segments are on ${[...placed].join()}, not on two devices`);
  const executor = await prepared.commit();
  const close = async (): Promise<void> => {
    await executor.close();
    await source.remove();
  };
  return {
    executor,
    models: chains.map(({ key }) => key) as [string, string],
    vocabSize: TINY.vocab,
    truncates: true,
    close,
  };
});

test("segments that stay where they are stay loaded when the models change", async () => {
  const source = await temporaryRepository([
    { name: "one", layers: [10, 11] },
    { name: "other", layers: [10, 21] },
  ]);
  const [one, other] = await Promise.all(
    ["one", "other"].map(async (name) => (await resolveChain(source.repository, name)) as BlockChain),
  );
  const place = {
    name: "cuda:0",
    options: (folder?: string) => runtimeOptions(1, folder),
    sharing: null,
    diagnose: () => null,
    isLost: () => false,
  };
  const from = async () => ({ threads: 1, maxBatchTokens: 256, placed: () => place });
  const runner = new HostRunner(source.repository, { threads: 1, from });
  const before = await runner.prepare([one!, other!]);
  for (const sessions of before.needs.values()) for (const session of sessions) await session.load();
  const executor = await before.commit();
  const after = await runner.prepare([one!, other!]);
  expect(after.needs.get(one!.key)).toEqual(before.needs.get(one!.key));
  expect(after.needs.get(one!.key)!.every(({ isLoaded }) => isLoaded)).toBe(true);
  await executor.close();
  await source.remove();
});

describe("what does not fit into CUDA devices", () => {
  test("is counted as the sessions will have it: halves become floats", async () => {
    const split = await splitFixtures(["exports/genai/llama-cuda-fp16"]);
    const [name] = [...split.models.keys()];
    const plan = planChains([(await resolveChain(split.repository, name!)) as BlockChain]);
    const config = engineConfig({ device: "cuda:0" });
    const bytesOf = plannedBytes(split.repository, config);
    const bytes = await Promise.all(plan.segments.map(bytesOf));
    const total = bytes.reduce((sum, one) => sum + one, 0);
    expect(total).toBeGreaterThan(2 * plan.bytes);

    const device = (freeBytes: number) => [{ index: 0, name: "NVIDIA A", freeBytes: Math.ceil(freeBytes / 0.9) }];
    const onDevice = async (freeBytes: number) =>
      await placement(plan, ["cuda:0"], { bytesOf, list: () => device(freeBytes) });
    expect((await onDevice(total)).placed!(plan.segments[0]!).name).toBe("cuda:0");
    await expect(onDevice(total - 2)).rejects.toMatchObject({
      code: "memory_exceeded",
      hint: "none of the models fits",
    });
    await split.remove();
  });
});

describe("a CUDA device that fails", () => {
  const LOST =
    "Non-zero status code returned while running MatMul node. CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=a ; file=b";
  const FULL = "Failed to allocate memory for requested buffer of size 4096";

  test("is told as lost, or as full", () => {
    expect(cudaError(new Error(LOST), "cuda:0")).toMatchObject({
      code: "device_lost",
      message: "cuda:0 stopped working: CUDA failure 700: an illegal memory access was encountered",
    });
    expect(cudaError(new Error(FULL), "cuda:1")).toMatchObject({ code: "memory_exceeded" });
    expect(cudaError(new Error("CUDA failure 2: out of memory ; GPU=0"), "cuda:1")?.code).toBe("memory_exceeded");
    expect(cudaError(new Error("CUDA failure 1: invalid argument ; GPU=0"), "cuda:0")).toBeNull();
  });

  test("ends the batch, and gives way to the CPU", async () => {
    const source = await temporaryRepository([{ name: "one", layers: [10, 11] }]);
    const chain = (await resolveChain(source.repository, "one")) as BlockChain;
    let lost = false;
    const onDevice = vi.fn<SessionPlace["options"]>((folder) => runtimeOptions(1, folder));
    const place: SessionPlace = {
      name: "cuda:0",
      options: onDevice,
      sharing: null,
      isLost: () => lost,
      diagnose: (error) => {
        const known = cudaError(error, "cuda:0");
        lost ||= known?.code === "device_lost";
        return known;
      },
    };
    const runner = new HostRunner(source.repository, {
      threads: 1,
      from: async () => ({ threads: 1, maxBatchTokens: 256, placed: () => place }),
    });
    const prepared = await runner.prepare([chain]);
    const segments = prepared.needs.get(chain.key)!;
    for (const segment of segments) await segment.load();
    expect(prepared.facts(chain).speculates, "rows of others change bits there").toBe(false);
    const executor = await prepared.commit();
    const item = { tokens: [3, 1, 4], start: 0, logits: "last", stepwise: false } as const;
    const run = async (sequence: number): Promise<Float32Array> => {
      executor.open(sequence, { model: chain.key, maxTokens: 16 });
      return (await executor.execute([{ ...item, sequence }]))[0]!.slice();
    };
    const expected = await run(1);
    const placed = onDevice.mock.calls.length;
    const { prototype } = InferenceSession as unknown as { prototype: InferenceSession };
    const native = vi.spyOn(prototype, "run").mockRejectedValueOnce(new Error(LOST));
    await expect(run(2)).rejects.toMatchObject({ code: "device_lost" });
    native.mockRestore();
    executor.release(2);
    expect(await run(3)).toEqual(expected);
    expect(onDevice.mock.calls.length, "made on the device again").toBe(placed);
    for (const segment of segments) expect(segment.isLoaded).toBe(true);
    for (const segment of segments) await segment.unload();
    for (const segment of segments) await segment.load();
    expect(await run(4)).toEqual(expected);
    await executor.close();
    await source.remove();
  });
});
