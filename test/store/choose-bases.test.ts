import { resolve } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";

import { MatrixProducts } from "../../src/fingerprint/matrix-products.ts";
import { floatToHalf, halfToFloat } from "../../src/onnx/numbers.ts";
import { addModel } from "../../src/store/add-model.ts";
import { chooseBases } from "../../src/store/choose-bases.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { readModels } from "../../src/store/sharing.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { addRank, putChanged } from "./change-block.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const BASE = resolve(import.meta.dirname, "../../fixtures/desk/optimum/base");

let repository: Repository;
beforeEach(async () => {
  repository = await openRepository(await temporaryFolder(), { create: true });
  await addModel(repository, BASE);
});

const TABLE = 512;

/** The table is another: noise that happens to make it lighter, or heavier. */
const putNoisy = async (name: string, { noise, lighter }: { noise: number; lighter: boolean }) =>
  await putChanged(repository, { from: "base", name }, (values, { dims }) => {
    if (dims[0] !== TABLE) return null;
    const random = gaussians(values.length, 1);
    const along = values.reduce((sum, value, at) => sum + value * random[at]!, 0);
    const sign = along > 0 === lighter ? -1 : 1;
    return values.map((value, at) => value + sign * noise * random[at]!);
  });
const bases = async () => {
  const candidates = await chooseBases(repository, await readModels(repository));
  return candidates.map(({ base, block }) => [base.models, block.models]);
};

it.each([true, false])(
  "takes what more models have as the base of two where weight says nothing (lighter: %s)",
  async (lighter) => {
    await addModel(repository, BASE, { name: "copy" });
    await putNoisy("tuned", { noise: 1e-4, lighter });
    const couple = [["base", "copy"], ["tuned"]];
    expect(await bases()).toEqual([couple, couple]);
  },
);

it("takes the lighter of two, however many models have the other one", async () => {
  await putNoisy("tuned", { noise: 0.1, lighter: true });
  await repository.putModel("tuned-too", (await repository.readModel("tuned")).document);
  const couple = [["base"], ["tuned", "tuned-too"]];
  expect(await bases()).toEqual([couple, couple]);
});

describe("with ranks", () => {
  const LAYER = 3;
  let seed = 0;

  /** As a LoRA of that rank, or of full rank, trained in one layer. */
  const tune = async (
    name: string,
    from: string,
    { rank, relative, half = false }: { rank: number; relative: number; half?: boolean },
  ) =>
    await putChanged(repository, { from, name }, (values, { dims }, layer) => {
      if (layer !== LAYER || dims.length !== 2) return null;
      const random = (count: number) => gaussians(count, (seed += 100));
      if (rank !== Infinity) {
        const merged = addRank(values, dims as [number, number], { rank, relative, random });
        return half ? merged.map((value) => halfToFloat(floatToHalf(value))) : merged;
      }
      const noise = random(values.length);
      return values.map((value, at) => value + 0.1 * relative * noise[at]!);
    });
  const basesByRank = async () => {
    const products = await MatrixProducts.open();
    try {
      const found = await chooseBases(repository, await readModels(repository), { products });
      return found
        .map(({ base, block }) => `${block.kind}: ${block.models.join()} from ${base.models.join()}`)
        .toSorted();
    } finally {
      await products.close();
    }
  };
  const inBoth = (couple: string) => ["attention", "mlp"].map((kind) => `${kind}: ${couple}`);

  it("takes what was tuned, not a copy of it that was hardly trained", async () => {
    for (const name of ["nearly", "nearly-too"]) await tune(name, "base", { rank: 4, relative: 1e-6 });
    for (const name of ["one", "two"]) await tune(name, "base", { rank: 4, relative: 0.3 });
    const couples = ["nearly", "nearly-too", "one", "two"].map((name) => `${name} from base`);
    expect(await basesByRank()).toEqual(couples.flatMap(inBoth).toSorted());
  });

  it("takes what was tuned where a copy differs by nothing but rounding", async () => {
    await tune("nearly", "base", { rank: 4, relative: 1e-4, half: true });
    for (const name of ["one", "two"]) await tune(name, "base", { rank: 4, relative: 0.01, half: true });
    const couples = ["nearly", "one", "two"].map((name) => `${name} from base`);
    expect(await basesByRank()).toEqual(couples.flatMap(inBoth).toSorted());
  });

  it("finds what a LoRA was made of beside the base of all", async () => {
    for (const name of ["one", "two", "three"]) await tune(name, "base", { rank: 4, relative: 0.3 });
    await tune("full", "base", { rank: Infinity, relative: 0.3 });
    await tune("other-full", "base", { rank: Infinity, relative: 0.3 });
    for (const name of ["full-lora", "full-lora-too"]) await tune(name, "full", { rank: 4, relative: 0.3 });
    const couples = ["one", "two", "three", "full", "other-full"].map((name) => `${name} from base`);
    couples.push("full-lora from full", "full-lora-too from full");
    expect(await basesByRank()).toEqual(couples.flatMap(inBoth).toSorted());
  });
});
