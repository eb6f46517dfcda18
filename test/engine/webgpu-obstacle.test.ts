import { expect, test } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import { node, toolModel } from "../../src/engine/execute/webgpu/device-tensors.ts";
import { withoutKernel } from "../../src/engine/execute/webgpu/for-webgpu.ts";
import { WebgpuRunner } from "../../src/engine/runners/webgpu-runner.ts";
import type { ValueInfo } from "../../src/onnx/model.ts";
import { temporaryRepository } from "./temporary-repository.ts";

/** Nothing here opens a device. */
test("says why a model cannot run on WebGPU, and refuses it where the device was asked for by name", async () => {
  const source = await temporaryRepository([
    { name: "plain", layers: [10] },
    { name: "sloped", layers: [10], shape: { core: { alibiSlopes: [0.5, 0.25, 0.125, 0.0625] } } },
  ]);
  const runner = new WebgpuRunner(source.repository, { device: "webgpu", maxBatchTokens: 256 });
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

test("says which operators have no kernel, those on whole numbers among them", () => {
  const positions: ValueInfo = { name: "positions", dtype: "int64", dims: [1, "N"] };
  const rows: ValueInfo = { name: "rows", dtype: "float32", dims: [1, "N", 4] };
  const nodes = [
    node("Add", ["positions", "offset"], ["index"]),
    node("Gather", ["table", "index"], ["picked"]),
    node("HardSwish", ["picked"], ["rows"]),
  ];
  expect(withoutKernel(toolModel([positions], nodes, [rows]))).toEqual(["HardSwish", "Add of whole numbers"]);
  const plain = [node("Gather", ["table", "positions"], ["picked"]), node("Add", ["picked", "picked"], ["rows"])];
  expect(withoutKernel(toolModel([positions], plain, [rows]))).toEqual([]);
});
