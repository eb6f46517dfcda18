import { readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

import { findSimilar } from "../../src/store/find-similar.ts";
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { undoMerges } from "../../src/store/undo-merges.ts";
import type { ChainEntry } from "../../src/store/model-document.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { readSketches } from "../../src/store/sketch-file.ts";
import { randomBits } from "../../src/fingerprint/seeded-random.ts";
import { addModel } from "../../src/store/add-model.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { addRank, putChanged } from "./change-block.ts";
import { putSmallModel } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const norm = bytes(16, 1);
const weight = bytes(4096, 2);
/** The same but for a byte in `every`. */
const near = (every: number) => weight.map((byte, at) => (at % every === 0 ? byte ^ 0x80 : byte));

describe("findSimilar", () => {
  it("gives the nearest first, with reasons", async () => {
    const repository = await familyRepository();
    const { block, candidates, neighbours } = await findSimilar(repository, "base:mlp.0", { top: 10 });
    expect(block).toMatchObject({ model: "base", kind: "mlp", layer: 0 });
    expect(candidates).toBe(5);
    expect(neighbours.map(({ places }) => places.map(({ model, layer }) => `${model} ${layer}`))).toEqual([
      ["copy 0"],
      ["norms 0"],
      ["near 0"],
      ["far 0"],
      ["far 1"],
    ]);
    expect(neighbours[0]).toMatchObject({ same_digest: true, relative_delta: 0, weight_cosine: 1, shared_tensors: 2 });
    expect(neighbours[1]).toMatchObject({ same_digest: false, shared_tensors: 1, shared_tensor_bytes: 4096 });
    expect(neighbours[1]!.tensors.map(({ name, same }) => [name, same])).toEqual([
      ["norm", false],
      ["weight", true],
    ]);
    const [, , nearly, far] = neighbours;
    expect(nearly!.sketch_distance).toBeLessThan(far!.sketch_distance);
    expect(nearly!.weight_cosine).toBeGreaterThan(0.9);
  });

  it("names the rank of a merged LoRA beside a norm that was tuned too", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    await addModel(repository, resolve(import.meta.dirname, "../../fixtures/desk/optimum/base"));
    await putChanged(repository, { from: "base", name: "tuned" }, (values, { dims }, layer) => {
      if (layer !== 2) return null;
      const random = (count: number) => gaussians(count, count);
      const shape = dims as [number, number];
      return dims.length === 2
        ? addRank(values, shape, { rank: 3, relative: 0.1, random })
        : values.map((value) => 1.01 * value);
    });
    const [found] = (await findSimilar(repository, "tuned:mlp.2", { top: 1 })).neighbours;
    expect(found!.places).toEqual([{ model: "base", kind: "mlp", layer: 2 }]);
    expect(found!.low_rank).toEqual({ rank: 3, exact: true, tensors: found!.tensors.length - 1 });

    await applyTiers(repository, undefined, { tiers: ["lowrank"], keepOriginals: true });
    const { replaces } = (await repository.readModel("tuned")).document.chain.find(isSought)!;
    expect(replaces).toMatchObject({ tier: "lowrank" });
    expect((await findSimilar(repository, "tuned:mlp.2", { top: 1 })).neighbours).toEqual([found]);

    await undoMerges(repository, undefined);
    await applyTiers(repository, undefined, { tiers: ["lowrank"], keepOriginals: false });
    const [left] = (await findSimilar(repository, "base:mlp.2", { top: 1 })).neighbours;
    expect(left).toMatchObject({ places: [{ model: "tuned", with_factors: true }] });
  });

  it("gives as many as it is asked for", async () => {
    const repository = await familyRepository();
    expect((await findSimilar(repository, "copy:mlp.0", { top: 1 })).neighbours).toHaveLength(1);
    expect((await findSimilar(repository, "far:mlp.1", { top: 2 })).neighbours).toHaveLength(2);
  });

  it("sees one tensor of huge differences in nearly equal weights", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    const moved = norm.map((byte) => 255 - byte);
    await putSmallModel(repository, "base", { layers: [{ norm, weight }] });
    await putSmallModel(repository, "outlier", {
      layers: [{ norm: Buffer.from(moved), weight: Buffer.from(near(2000)) }],
    });
    const [found] = (await findSimilar(repository, "base:mlp.0", { top: 1 })).neighbours;
    expect(found!.weight_cosine).toBeGreaterThan(0.98);
    const [normDistance, weightDistance] = found!.tensors;
    expect(normDistance).toMatchObject({ name: "norm", weight_cosine: -1, relative_delta: 2 });
    expect(weightDistance!.relative_delta).toBeLessThan(0.1);
  });

  it("names what can be named when the block is not there", async () => {
    const repository = await familyRepository();
    await expect(findSimilar(repository, "base:mlp.7", { top: 1 })).rejects.toMatchObject({
      code: "usage",
      hint: "it has mlp.0",
    });
    await expect(findSimilar(repository, "base", { top: 1 })).rejects.toMatchObject({ code: "usage" });
    await expect(findSimilar(repository, "nobody:mlp.0", { top: 1 })).rejects.toMatchObject({
      code: "model_not_found",
    });
  });
});

describe("kept sketches", () => {
  it("are made once, and anew when their file is gone or damaged", async () => {
    const repository = await familyRepository();
    const sketched = async () => {
      let blocks = 0;
      const onProgress = () => void blocks++;
      const { neighbours } = await findSimilar(repository, "base:mlp.0", { top: 10, onProgress });
      return { blocks, distances: neighbours.map(({ sketch_distance }) => sketch_distance) };
    };
    const first = await sketched();
    expect(first.blocks).toBe(5);
    expect(await sketched()).toEqual({ ...first, blocks: 0 });

    const path = join(repository.root, "cache", "sketches");
    const kept = await readFile(path);
    for (const damage of [
      () => rm(path),
      () =>
        writeFile(
          path,
          kept.map((byte, at) => (at === 60 ? byte ^ 1 : byte)),
        ),
      () => writeFile(path, kept.subarray(0, kept.length - 5)),
      () => writeFile(path, "something else"),
    ]) {
      await damage();
      expect((await readSketches(repository.blobs.folder)).size).toBe(0);
      expect(await sketched()).toEqual(first);
    }
    expect((await checkIntegrity(repository)).problems).toEqual([]);
    expect((await openRepository(repository.root)).root).toBe(repository.root);
  });
});

function isSought({ kind, layer }: ChainEntry): boolean {
  return kind === "mlp" && layer === 2;
}

async function familyRepository(): Promise<Repository> {
  const repository = await openRepository(await temporaryFolder(), { create: true });
  await putSmallModel(repository, "base", { layers: [{ norm, weight }] });
  await putSmallModel(repository, "copy", { layers: [{ norm, weight }] });
  await putSmallModel(repository, "norms", { layers: [{ norm: bytes(16, 9), weight }] });
  await putSmallModel(repository, "near", { layers: [{ norm, weight: Buffer.from(near(50)) }] });
  const far = [3, 4].map((seed) => ({ norm: bytes(16, seed + 10), weight: bytes(4096, seed) }));
  far[0]!.weight.set(weight.subarray(0, 2048));
  await putSmallModel(repository, "far", { layers: far });
  return repository;
}

function bytes(count: number, seed: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: count }, (_, at) => randomBits(seed, at)));
}
