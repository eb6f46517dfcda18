import { join, resolve } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";

import { addModel } from "../../src/store/add-model.ts";
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { reportSharing } from "../../src/store/sharing.ts";
import { markExactOnly, undoMerges } from "../../src/store/undo-merges.ts";
import { blockTensors } from "../../src/store/sketch-blocks.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { addRank, putChanged } from "./change-block.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const DESK = resolve(import.meta.dirname, "../../fixtures/desk");
const LAYERS = 6;
const LOW_RANK = { tiers: ["lowrank"], keepOriginals: true } as const;

let repository: Repository;
beforeEach(async () => {
  repository = await openRepository(await temporaryFolder(), { create: true });
});

const split = async (...names: string[]) => {
  for (const name of names) await addModel(repository, join(DESK, "optimum", name));
};
const documentOf = async (name: string): Promise<ModelDocument> => (await repository.readModel(name)).document;
const digestsOf = async (name: string) => (await documentOf(name)).chain.map(({ digest }) => digest);
const merged = ({ chain }: ModelDocument) => chain.filter(({ replaces }) => replaces !== undefined);
const reachableBytes = async () => {
  const { bytes, garbage_bytes } = await checkIntegrity(repository);
  return bytes - garbage_bytes;
};
const isSound = async () => expect((await checkIntegrity(repository)).problems).toEqual([]);

describe("low rank", () => {
  it("has every LoRA of a base run the base's blocks, whichever came first, and undoes it to the byte", async () => {
    await split("support", "legal");
    await addModel(repository, join(DESK, "optimum/base"), { name: "zero" });
    const before = [await documentOf("support"), await documentOf("legal")];
    const { models, lowrank } = await applyTiers(repository, undefined, LOW_RANK);
    expect(models).toEqual(["legal", "support"]);
    expect(lowrank.blocks).toBe(2 * 2 * LAYERS);
    expect(lowrank.largest_relative_error).toBeLessThan(1e-6);
    for (const name of models) {
      expect(await digestsOf(name)).toEqual(await digestsOf("zero"));
      for (const { adapter, replaces } of merged(await documentOf(name))) {
        expect(adapter!.bytes).toBeLessThan(replaces!.bytes / 2);
        expect(replaces).toMatchObject({ tier: "lowrank", kept: true, evidence: { rank: 8, weights: "to rounding" } });
        expect(replaces!.evidence["relative_error"]).toBeLessThan(1e-6);
      }
    }
    await isSound();
    await undoMerges(repository, undefined);
    expect([await documentOf("support"), await documentOf("legal")]).toEqual(before);
  });

  it("brings a LoRA that comes later to the same base, and changes only what is named", async () => {
    await split("base", "support", "legal", "finance");
    const untouched = [await documentOf("base"), await documentOf("finance")];
    expect((await applyTiers(repository, ["support"], LOW_RANK)).models).toEqual(["support"]);
    expect((await applyTiers(repository, ["legal"], LOW_RANK)).models).toEqual(["legal"]);
    expect(await digestsOf("legal")).toEqual(await digestsOf("support"));
    expect([await documentOf("base"), await documentOf("finance")]).toEqual(untouched);
    expect((await applyTiers(repository, ["support", "legal"], LOW_RANK)).models).toEqual([]);
  });

  it("frees what it replaces where originals are not kept, and keeps the base of a model that was removed", async () => {
    await split("base", "support");
    const before = await reportSharing(repository);
    await applyTiers(repository, undefined, { ...LOW_RANK, keepOriginals: false });
    await repository.removeModel("base");
    await collectGarbage(repository, { graceMs: 0 });
    await isSound();
    const after = await reportSharing(repository);
    expect(after.logical_bytes).toBeLessThan(before.logical_bytes);
    expect(after.kept_original_bytes).toBe(0);
    expect((await undoMerges(repository, undefined)).models[0]).toMatchObject({ restored: 0, not_kept: 2 * LAYERS });
  });

  it("accounts for every byte, with and without the originals", async () => {
    await split("base", "mirror", "support", "legal");
    const asSplit = await reportSharing(repository);
    for (const keepOriginals of [true, false]) {
      await applyTiers(repository, undefined, { ...LOW_RANK, keepOriginals });
      const { tiers, ...report } = await reportSharing(repository);
      const saved = tiers.exact.saved_bytes + tiers.lowrank.saved_bytes;
      expect(report.stored_bytes).toBe(report.logical_bytes - saved + report.kept_original_bytes);
      expect(report.stored_bytes).toBe(await reachableBytes());
      expect(tiers.lowrank.blocks).toBe(2 * 2 * LAYERS);
      expect(report.kept_original_bytes > 0).toBe(keepOriginals);
      const kept = report.per_model.map((model) => model.kept_original_bytes ?? 0);
      expect(kept.reduce((sum, bytes) => sum + bytes, 0)).toBe(report.kept_original_bytes);
      if (keepOriginals) expect(report.logical_bytes).toBe(asSplit.logical_bytes);
      await undoMerges(repository, undefined);
    }
  });

  it("leaves models alone that are exact only", async () => {
    await split("base", "support");
    await markExactOnly(repository, ["support"], { exactOnly: true });
    expect(await applyTiers(repository, undefined, LOW_RANK)).toMatchObject({ models: [], exact_only: ["support"] });
  });

  it("finds nothing in quantised weights", async () => {
    for (const name of ["base", "support"]) await addModel(repository, join(DESK, "genai-int4", name));
    expect((await applyTiers(repository, undefined, LOW_RANK)).models).toEqual([]);
  });
});

describe("fine-tunes that only look like a LoRA", () => {
  beforeEach(async () => await split("base"));

  const change = async (
    name: string,
    how: (values: Float32Array, at: { dims: number[]; layer: number; seed: number }) => Float32Array | null,
  ) => {
    let seed = 0;
    await putChanged(repository, { from: "base", name }, (values, { dims }, layer) =>
      layer === null ? null : how(values, { dims, layer, seed: (seed += 100) }),
    );
    await applyTiers(repository, [name], LOW_RANK);
    return merged(await documentOf(name));
  };
  const plusRank = (values: Float32Array, { dims, seed }: { dims: number[]; seed: number }, rank: number) => {
    let used = 0;
    const random = (count: number) => gaussians(count, seed + used++);
    return addRank(values, dims as [number, number], { rank, relative: 0.1, random });
  };

  it.each([1, 4, 16])("takes a true rank of %i, on some modules of some layers", async (rank) => {
    const blocks = await change("tuned", (values, at) =>
      at.dims.length === 2 && at.dims[0] === at.dims[1] && at.layer > 2 ? plusRank(values, at, rank) : null,
    );
    expect(blocks.map(({ kind, layer }) => `${kind} ${layer}`)).toEqual(["attention 3", "attention 4", "attention 5"]);
    for (const { replaces } of blocks) expect(replaces!.evidence).toMatchObject({ rank, projections: 2 });
  });

  it("lets a block whose norm was tuned too run its base's projections beside its own norm", async () => {
    const blocks = await change("tuned", (values, at) => {
      if (at.layer !== 2 && at.layer !== 3) return null;
      if (at.dims.length === 2) return plusRank(values, at, 4);
      return at.layer === 2 ? values.map((value) => value * 1.01) : null;
    });
    expect(blocks).toHaveLength(2 * 2);
    const base = await documentOf("base");
    for (const { digest, kind, layer, replaces } of blocks) {
      const own = base.chain.find((entry) => entry.kind === kind && entry.layer === layer)!;
      expect(digest === own.digest).toBe(layer !== 2);
      expect(replaces!.evidence["own_weights"]).toBe(layer === 2 ? "norm1.weight" : undefined);
      if (layer !== 2) continue;
      const [weights, original, shared] = await Promise.all(
        [digest, replaces!.digest, own.digest].map(async (each) => blockTensors(await repository.readBlock(each))),
      );
      for (const [at, tensor] of weights!.entries())
        expect(tensor).toEqual((tensor.dims.length === 1 ? original! : shared!)[at]);
    }
    await isSound();
    // What is made of two blocks is nobody's base, and nothing is merged twice.
    expect((await applyTiers(repository, undefined, LOW_RANK)).models).toEqual([]);
    await putChanged(repository, { from: "base", name: "later" }, (values, { dims }, layer) =>
      dims.length === 2 && layer === 2 ? plusRank(values, { dims, seed: 9 }, 2) : null,
    );
    await applyTiers(repository, undefined, { ...LOW_RANK, tiers: ["lowrank", "residual"] });
    expect(await digestsOf("later")).toEqual(await digestsOf("base"));
    await undoMerges(repository, undefined);
    expect(merged(await documentOf("tuned"))).toEqual([]);
    await isSound();
  });

  it("keeps a block whole of which more than half was trained in full", async () => {
    const blocks = await change("tuned", (values, at) => {
      if (at.dims.length !== 2) return null;
      if (at.layer > 0) return null;
      const isSquare = at.dims[0] === at.dims[1];
      const noise = gaussians(values.length, at.seed);
      return isSquare ? plusRank(values, at, 4) : values.map((value, i) => value + 0.01 * noise[i]!);
    });
    expect(blocks.map(({ kind, layer }) => `${kind} ${layer}`)).toEqual(["attention 0"]);
    expect(blocks[0]!.replaces!.evidence["own_weights"]).toMatch(/^\S+, \S+$/);
  });

  it("leaves a block whole with a change beside the low rank that is too small to see in its weights", async () => {
    const blocks = await change("tuned", (values, at) => {
      if (at.dims.length !== 2) return null;
      const changed = plusRank(values, at, 4);
      const noise = gaussians(values.length, at.seed + 50);
      return at.layer === 2 ? changed.map((value, i) => value + 1e-4 * noise[i]!) : changed;
    });
    expect(blocks.every(({ layer }) => layer !== 2)).toBe(true);
    expect(blocks).toHaveLength(2 * LAYERS - 2);
  });
});

it("loses nothing when a model is changed by another process meanwhile", async () => {
  await split("base", "support");
  const other = await openRepository(repository.root);
  const swap = repository.swapModels.bind(repository);
  vi.spyOn(repository, "swapModels").mockImplementation(async (swaps) => {
    await markExactOnly(other, ["support"], { exactOnly: true });
    return await swap(swaps);
  });
  await expect(applyTiers(repository, undefined, LOW_RANK)).rejects.toMatchObject({ code: "model_changed" });
  expect(await documentOf("support")).toMatchObject({ exactOnly: true });
  expect(merged(await documentOf("support"))).toEqual([]);
  await isSound();
});
