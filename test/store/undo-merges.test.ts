import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository, StoredModel } from "../../src/store/repository.ts";
import { markExactOnly, undoMerges } from "../../src/store/undo-merges.ts";
import { contents, putSmallModel, storeParts } from "./make-model.ts";

const layer = (weight: string) => ({ norm: contents("norm", 16), weight: contents(weight) });
const BASE = { layers: [layer("one"), layer("two")] };
const TUNED = { layers: [layer("one"), layer("other")], note: "tuned" };

let repository: Repository;
let folder = "";
let split: ModelDocument;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "blockllm-test-"));
  repository = await openRepository(folder, { create: true });
  await putSmallModel(repository, "base", BASE);
  split = (await putSmallModel(repository, "tuned", TUNED)).document;
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

/** The last block of `tuned` gives way to base's. */
async function merge(kept: boolean): Promise<StoredModel> {
  const before = await repository.readModel("tuned");
  const chain = before.document.chain.with(1, {
    ...(await repository.readModel("base")).document.chain[1]!,
    replaces: {
      tier: "equivalent",
      digest: before.document.chain[1]!.digest,
      bytes: before.document.chain[1]!.bytes,
      kept,
      evidence: { kl: 0.001 },
    },
  });
  expect(await repository.swapModels([{ before, document: { ...before.document, chain } }])).toEqual(["tuned"]);
  return before;
}

const original = () => split.chain[1]!.digest;
const tuned = async () => (await repository.readModel("tuned")).document;

describe("a merge whose original is kept", () => {
  it("keeps the original's blobs through a collection, and is undone", async () => {
    await merge(true);
    await collectGarbage(repository, { graceMs: 0 });
    expect((await checkIntegrity(repository)).problems).toEqual([]);
    expect((await tuned()).chain[1]!.digest).not.toBe(original());
    expect(await undoMerges(repository, undefined)).toEqual({
      models: [{ name: "tuned", restored: 1, not_kept: 0 }],
    });
    expect(await tuned()).toEqual(split);
    expect((await checkIntegrity(repository)).problems).toEqual([]);
  });

  it("stays when the same model is split again, and another model is still refused", async () => {
    await merge(true);
    await putSmallModel(repository, "tuned", TUNED);
    expect((await tuned()).chain[1]!.replaces).toMatchObject({ kept: true });
    await expect(putSmallModel(repository, "tuned", { ...BASE, note: "third" })).rejects.toMatchObject({
      code: "name_taken",
    });
  });

  it("is left alone by an undo of other tiers", async () => {
    await merge(true);
    const { models } = await undoMerges(repository, ["tuned"], { tiers: ["lowrank"] });
    expect(models).toEqual([{ name: "tuned", restored: 0, not_kept: 0 }]);
    expect((await tuned()).chain[1]!.replaces).toBeDefined();
  });

  it("survives the removal of the model whose block runs", async () => {
    await merge(true);
    await repository.removeModel("base");
    await collectGarbage(repository, { graceMs: 0 });
    expect((await checkIntegrity(repository)).problems).toEqual([]);
  });
});

describe("a merge whose original is not kept", () => {
  it("frees the original's blobs, and an undo says so", async () => {
    await merge(false);
    await collectGarbage(repository, { graceMs: 0 });
    expect(await repository.blobs.has(original())).toBe(false);
    expect((await checkIntegrity(repository)).problems).toEqual([]);
    expect((await undoMerges(repository, undefined)).models).toEqual([{ name: "tuned", restored: 0, not_kept: 1 }]);
    await expect(markExactOnly(repository, ["tuned"], { exactOnly: true })).rejects.toMatchObject({
      code: "original_not_kept",
    });
  });

  it("can be undone once the model was split again", async () => {
    await merge(false);
    await collectGarbage(repository, { graceMs: 0 });
    await putSmallModel(repository, "tuned", TUNED);
    await undoMerges(repository, ["tuned"]);
    expect(await tuned()).toEqual(split);
    expect((await checkIntegrity(repository)).problems).toEqual([]);
  });
});

describe("exact only", () => {
  it("undoes merges and is remembered until it is lifted", async () => {
    await merge(true);
    await markExactOnly(repository, ["tuned"], { exactOnly: true });
    expect(await tuned()).toEqual({ ...split, exactOnly: true });
    await putSmallModel(repository, "tuned", TUNED);
    expect((await tuned()).exactOnly).toBe(true);
    await markExactOnly(repository, ["tuned"], { exactOnly: false });
    expect(await tuned()).toEqual(split);
  });

  it("can be asked for when a merged model is split again", async () => {
    await merge(false);
    await repository.putModel("tuned", { ...(await storeParts(repository, TUNED)), exactOnly: true });
    expect(await tuned()).toEqual({ ...split, exactOnly: true });
  });
});

describe("swapModels", () => {
  it("leaves a name alone that stands for another manifest by now", async () => {
    const before = await merge(true);
    const merged = await tuned();
    expect(await repository.swapModels([{ before, document: { ...split, warnings: ["late"] } }])).toEqual([]);
    expect(await tuned()).toEqual(merged);
    await repository.removeModel("tuned");
    expect(await repository.swapModels([{ before, document: split }])).toEqual([]);
    expect((await repository.listModels()).map(({ name }) => name)).toEqual(["base"]);
  });

  it("changes nothing when a document needs a block that is not there", async () => {
    const before = await repository.readModel("tuned");
    const chain = before.document.chain.with(1, { ...before.document.chain[1]!, digest: `sha256:${"0".repeat(64)}` });
    await expect(repository.swapModels([{ before, document: { ...before.document, chain } }])).rejects.toMatchObject({
      code: "blob_missing",
    });
    expect(await tuned()).toEqual(split);
  });
});
