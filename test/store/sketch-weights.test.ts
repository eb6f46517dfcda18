import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

import { readSketches } from "../../src/store/sketch-file.ts";
import { sketchBlocks } from "../../src/store/sketch-blocks.ts";
import { fixtureModels, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures(fixtureModels());
}, 120_000);
afterAll(async () => await split.remove());

it("split leaves the sketch of every block, the one that its stored weights give", { timeout: 120_000 }, async () => {
  const { folder } = split.repository.blobs;
  const left = await readSketches(folder);
  const digests = [...split.models.values()].flatMap(({ document }) => document.chain.map(({ digest }) => digest));
  expect(digests.filter((digest) => !left.has(digest))).toEqual([]);

  await rm(join(folder.root, "cache"), { recursive: true });
  const again = await sketchBlocks(split.repository, digests);
  expect([...again].filter(([digest, sketch]) => sketch.join() !== left.get(digest)!.join())).toEqual([]);
});
