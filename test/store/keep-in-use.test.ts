import { utimes } from "node:fs/promises";
import { afterEach, expect, it } from "vitest";

import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { type InUse, keepInUse } from "../../src/store/keep-in-use.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { putSmallModel, randomModel } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

let inUse: InUse | null = null;
afterEach(() => inUse?.stop());

const failing = (error: unknown): never => {
  throw error;
};

it("keeps what a process needs though its model is gone, and nothing else", async () => {
  const repository = await newRepository("used", "other");
  inUse = keepInUse(repository, { onError: failing });
  await inUse.use(["used"]);
  await repository.removeModel("used");
  await repository.removeModel("other");
  const { removed, young_blobs, kept_blobs } = await collectGarbage(repository);
  expect([removed.length, young_blobs, kept_blobs]).toEqual([BLOBS, BLOBS + COMMON, 0]);
});

it("goes on keeping it, until it is let go", async () => {
  const repository = await newRepository("used", "next");
  inUse = keepInUse(repository, { onError: failing, everyMs: 5 });
  await inUse.use(["used"]);
  await makeOld(repository);
  await expect.poll(async () => (await collectGarbage(repository, { dryRun: true })).removed).toEqual([]);
  await repository.removeModel("used");
  await makeOld(repository);
  await expect.poll(async () => (await collectGarbage(repository, { dryRun: true })).young_blobs).toBe(BLOBS);
  await inUse.use(["next"]);
  await makeOld(repository);
  expect((await collectGarbage(repository)).removed).toHaveLength(BLOBS);
  expect(await checkIntegrity(repository)).toMatchObject({ models: 1, problems: [] });
});

/** Of a small model alone: manifest, config, block, graph, two tensors. All have their configuration in common. */
const BLOBS = 6;
const COMMON = 1;

/** Models that share nothing, put there long ago. */
async function newRepository(...names: string[]): Promise<Repository> {
  const repository = await openRepository(await temporaryFolder(), { create: true });
  for (const name of names) await putSmallModel(repository, name, randomModel(1));
  await makeOld(repository);
  return repository;
}

async function makeOld({ blobs }: Repository): Promise<void> {
  for await (const { digest } of blobs.list()) await utimes(blobs.path(digest), 1, 1);
}
