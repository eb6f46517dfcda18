import { expect, test } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { planChains } from "../../src/chain/plan.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { stretchesOf } from "../../src/chain/stretches.ts";
import type { TinyModel } from "../engine/tiny-model.ts";
import { temporaryRepository } from "../engine/temporary-repository.ts";

/** Per model its stretches: the layers, and whether their key is one of another model's. */
async function stretchesFor(models: TinyModel[]) {
  const source = await temporaryRepository(models);
  const chains: BlockChain[] = [];
  for (const { name } of models) {
    const chain = await resolveChain(source.repository, name);
    if (chain.kind === "blocks") chains.push(chain);
  }
  const stretches = stretchesOf(planChains(chains));
  await source.remove();
  return stretches;
}

const layersOf = (stretches: Awaited<ReturnType<typeof stretchesFor>>[number]) =>
  stretches.map(({ layers: { first, end } }) => [first, end]);

test("a model alone, and models that are equal up to the last core, have one stretch", async () => {
  const [alone] = await stretchesFor([{ name: "base", layers: [10, 11] }]);
  expect(layersOf(alone!)).toEqual([[0, 2]]);
  const [base, same] = await stretchesFor([
    { name: "base", layers: [10, 11] },
    { name: "same", layers: [10, 11] },
  ]);
  expect(base).toEqual(same);
  expect(base).toEqual(alone);
});

test("ways part where blocks differ, and what lies before is the same for all that came that way", async () => {
  const [base, late, early, other] = await stretchesFor([
    { name: "base", layers: [10, 11, 12, 13] },
    { name: "late", layers: [10, 11, 12, 23] },
    { name: "early", layers: [10, 21, 22, 23] },
    { name: "other", layers: [20, 21, 22, 23] },
  ]);
  expect([base, late, early, other].map((one) => layersOf(one!))).toEqual([
    [
      [0, 1],
      [1, 3],
      [3, 4],
    ],
    [
      [0, 1],
      [1, 3],
      [3, 4],
    ],
    [
      [0, 1],
      [1, 4],
    ],
    [[0, 4]],
  ]);
  const keys = [base, late, early, other].map((one) => one!.map(({ key }) => key));
  expect(keys[1]!.slice(0, 2)).toEqual(keys[0]!.slice(0, 2));
  expect(keys[2]![0]).toBe(keys[0]![0]);
  expect(new Set(keys.flat()).size).toBe(6);
  for (const { layers, bytesPerToken } of base!) expect(bytesPerToken).toBe((layers.end - layers.first) * 2 * 16 * 4);
});

test("cores of another kind part ways before the part that feeds them", async () => {
  const [base, windowed] = await stretchesFor([
    { name: "base", layers: [10, 11] },
    { name: "windowed", layers: [10, 11], shape: { core: { window: 9 } } },
  ]);
  expect([layersOf(base!), layersOf(windowed!)]).toEqual([[[0, 2]], [[0, 2]]]);
  expect(base![0]!.key).not.toBe(windowed![0]!.key);
});

test("what reaches a parting is named with its width", async () => {
  const [base] = await stretchesFor([
    { name: "base", layers: [10, 11] },
    { name: "tuned", layers: [10, 21] },
  ]);
  expect(base![0]!.parting!.ports.map(({ name }) => name)).toEqual(["hidden"]);
  expect(base!.at(-1)!.parting).toBeNull();
});
