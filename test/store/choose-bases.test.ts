import { resolve } from "node:path";
import { beforeEach, expect, it } from "vitest";

import { addModel } from "../../src/store/add-model.ts";
import { chooseBases } from "../../src/store/choose-bases.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { readModels } from "../../src/store/sharing.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { putChanged } from "./change-block.ts";
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
