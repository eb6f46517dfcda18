import { expect, test } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import { WebgpuRunner } from "../../src/engine/runners/webgpu-runner.ts";
import { temporaryRepository } from "./temporary-repository.ts";

/** Nothing here opens a device. */
test("says why a model cannot run on WebGPU, and refuses it where the device was asked for by name", async () => {
  const source = await temporaryRepository([
    { name: "plain", layers: [10] },
    { name: "sloped", layers: [10], shape: { core: { alibiSlopes: [0.5, 0.25, 0.125, 0.0625] } } },
  ]);
  const runner = new WebgpuRunner(source.repository, 256);
  const obstacle = async (name: string): Promise<string | null> =>
    await runner.obstacle((await resolveChain(source.repository, name)) as BlockChain);
  expect(await obstacle("plain")).toBeNull();
  expect(await obstacle("sloped")).toBe("its attention has ALiBi slopes");

  await expect(loadModels(source.repository, ["sloped"], engineConfig({ device: "webgpu" }))).rejects.toMatchObject({
    code: "model_unsupported",
    message: "sloped cannot run on webgpu: its attention has ALiBi slopes",
  });
  const spared = await loadModels(
    source.repository,
    ["sloped"],
    engineConfig({ device: "webgpu", deviceStrict: false, threads: 1 }),
  );
  expect(spared.models).toMatchObject([{ name: "sloped", hostReason: "its attention has ALiBi slopes" }]);
  await spared.executor.close();
  await source.remove();
});
