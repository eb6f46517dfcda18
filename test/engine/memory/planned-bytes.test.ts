import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BlockChain } from "../../../src/chain/chain.ts";
import { planChains } from "../../../src/chain/plan.ts";
import { refineChains } from "../../../src/chain/refine-chains.ts";
import { resolveChain } from "../../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../../src/engine/engine-config.ts";
import { openModels } from "../../../src/engine/load-models.ts";
import { divideMemory } from "../../../src/engine/memory/divide-memory.ts";
import { plannedBytes } from "../../../src/engine/memory/planned-bytes.ts";
import { splitFixtures, type SplitFixtures } from "../../blocks/split-fixtures.ts";
import { missingWebgpu } from "../webgpu-here.ts";

const ALIKE = ["desk/optimum/base", "desk/optimum/hr"];
const HALF = "exports/contrib/gpt2-fp16";
const missing = await missingWebgpu();

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures([...ALIKE, HALF]);
}, 120_000);
afterAll(async () => await split.remove());

async function chainOf(path: string): Promise<BlockChain> {
  return (await resolveChain(split.repository, path)) as BlockChain;
}

it("weights stored as float16 take half where the device multiplies them so", async () => {
  const { segments } = planChains([await chainOf(HALF)]);
  const [float, half] = await Promise.all(
    ["webgpu", "webgpu:fp16"].map(async (device) => {
      const bytesOf = plannedBytes(split.repository, engineConfig({ device }));
      const bytes = await Promise.all(segments.map(bytesOf));
      return bytes.reduce((sum, each) => sum + each, 0);
    }),
  );
  const weights = segments.reduce((sum, { bytes }) => sum + bytes, 0);
  expect((float! - half!) / weights).toBeCloseTo(1, 1);
});

describe.skipIf(missing !== null)("memory that plan says of a WebGPU device", () => {
  it("is what the engine takes", { timeout: 240_000 }, async () => {
    const config = engineConfig({ device: "webgpu", memoryBytes: 1e9, threads: 1 });
    const chains = await Promise.all(ALIKE.map(chainOf));
    const plan = planChains((await refineChains(chains, split.repository)).chains);
    const planned = await divideMemory(chains, plan, { config, source: split.repository });
    const { executor, models } = await openModels(split.repository, ALIKE, config);
    const loadables = new Set([...executor.needs.values()].flat());
    expect(planned.weightBytes).toBe([...loadables].reduce((sum, { bytes }) => sum + bytes, 0));
    expect(planned.models.map(({ contextLength }) => contextLength)).toEqual(
      models.map(({ contextLength }) => contextLength),
    );
    await executor.close();
  });
});
