import { expect, test } from "vitest";
import { planChains } from "../../src/chain/plan.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { openModels } from "../../src/engine/load-models.ts";
import { divideMemory } from "../../src/engine/memory/divide-memory.ts";
import { temporaryRepository } from "./temporary-repository.ts";

test("where models do not fit, it is said by how much, and which would", async () => {
  const wide = { hidden: 256, mlp: 1024 };
  const source = await temporaryRepository([
    { name: "small", layers: [10] },
    { name: "wide", layers: [20], shape: wide },
    { name: "wider", layers: [20, 21], shape: wide },
    { name: "tiny", layers: [11] },
  ]);
  const names = ["small", "wide", "wider", "tiny"];
  const chains = await Promise.all(names.map(async (name) => resolveChain(source.repository, name)));
  const config = engineConfig({ memoryBytes: 6_000_000, threads: 1, maxBatchTokens: 65 });
  const refusal = {
    code: "memory_exceeded",
    message: expect.stringMatching(/^wide needs (\d+) bytes .*; 1 more of 4 models do not fit either$/) as string,
    hint: expect.stringMatching(/^start with --memory \d+MB or more.*; these fit: --models small,tiny$/) as string,
  };
  await expect(openModels(source.repository, names, config)).rejects.toMatchObject(refusal);
  const plan = planChains(chains.filter((chain) => chain.kind === "blocks"));
  await expect(divideMemory(chains, plan, { config, source: source.repository })).rejects.toMatchObject(refusal);

  const fitting = await openModels(source.repository, ["small", "tiny"], config);
  expect(fitting.models.map(({ name }) => name)).toEqual(["small", "tiny"]);
  await fitting.executor.close();
  const alone = openModels(source.repository, ["wide"], config);
  await expect(alone).rejects.toMatchObject({ message: expect.stringMatching(/too little$/) as string });
  await source.remove();
});
