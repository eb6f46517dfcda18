import { chmod, copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";

import type { Digest } from "../../src/blocks/block.ts";
import { digestBytes } from "../../src/fingerprint/digest.ts";
import { addModel } from "../../src/store/add-model.ts";
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { reportSharing } from "../../src/store/sharing.ts";
import { blockTensors } from "../../src/store/sketch-blocks.ts";
import { residualsAmong, type StoredResidual } from "../../src/store/stored-residual.ts";
import { undoMerges, undoResiduals } from "../../src/store/undo-merges.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const DESK = resolve(import.meta.dirname, "../../fixtures/desk/optimum");

let repository: Repository;
beforeEach(async () => {
  repository = await openRepository(await temporaryFolder(), { create: true });
});

const split = async (...names: string[]) => {
  for (const name of names) await addModel(repository, join(DESK, name));
};
const apply = async (names?: string[], tiers: ("lowrank" | "residual")[] = ["residual"]) =>
  await applyTiers(repository, names, { tiers, keepOriginals: true });
const collect = async () => await collectGarbage(repository, { graceMs: 0 });
const residualsOf = async (name: string): Promise<StoredResidual[]> =>
  residualsAmong((await repository.readModel(name)).manifest.layers);
const problems = async () => (await checkIntegrity(repository)).problems;

/** Every tensor of a model's chain gives the bytes of its digest, by whichever way it is stored. */
async function isReadable(from: Repository, name: string): Promise<void> {
  for (const { digest } of (await from.readModel(name)).document.chain)
    for (const tensor of blockTensors(await from.readBlock(digest))) {
      expect(digestBytes(await from.blobs.read(tensor.digest, tensor.bytes))).toBe(tensor.digest);
      const chunks: Uint8Array[] = [];
      for await (const chunk of from.blobs.stream(tensor.digest)) chunks.push(chunk);
      expect(digestBytes(Buffer.concat(chunks))).toBe(tensor.digest);
    }
}

async function damage(digest: Digest): Promise<void> {
  const path = repository.blobs.path(digest);
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await chmod(path, 0o644);
  await writeFile(path, bytes);
}

describe("residuals applied", () => {
  it("take the place of tensors on disk, and every reader gets the tensors", async () => {
    await split("base", "hr", "research");
    const before = await reportSharing(repository);
    expect((await apply()).models).toEqual(["hr", "research"]);
    await collect();
    const encoded = await residualsOf("research");
    expect(encoded.length).toBeGreaterThan(40);
    for (const { tensor, base } of encoded) {
      expect(await repository.blobs.has(tensor)).toBe(false);
      expect(await repository.blobs.has(base)).toBe(true);
    }
    for (const name of ["base", "hr", "research"]) await isReadable(repository, name);
    const after = await reportSharing(repository);
    expect(after.stored_bytes).toBeLessThan(before.stored_bytes * 0.95);
    expect(after.logical_bytes).toBe(before.logical_bytes);
    expect(after.stored_bytes).toBe(
      after.logical_bytes - after.tiers.exact.saved_bytes - after.tiers.residual.saved_bytes,
    );
    expect(await problems()).toEqual([]);
    expect((await apply()).models).toEqual([]);
  });

  it("stay when the same model is split again, and serve its copies under other names", async () => {
    await split("base", "hr");
    await apply();
    await collect();
    const before = await repository.readModel("hr");
    await split("hr");
    await addModel(repository, join(DESK, "hr"), { name: "copy" });
    expect(await repository.readModel("hr")).toEqual(before);
    await collect();
    expect(await residualsOf("copy")).toEqual(await residualsOf("hr"));
    await isReadable(repository, "copy");
    expect(await problems()).toEqual([]);
  });

  it("outlive the model of their base, which a difference never has for its own", async () => {
    await split("base", "hr", "sales");
    await apply();
    await repository.removeModel("base");
    await collect();
    await isReadable(repository, "hr");
    expect(await problems()).toEqual([]);
    await split("research", "base");
    await apply();
    await collect();
    const all = (await Promise.all(["base", "hr", "sales", "research"].map(residualsOf))).flat();
    const encoded = new Set(all.map(({ tensor }) => tensor));
    expect(all.filter(({ base }) => encoded.has(base))).toEqual([]);
    for (const name of ["base", "hr", "sales", "research"]) await isReadable(repository, name);
    expect(await problems()).toEqual([]);
  });

  it("leave whole what a model needs that is not named", async () => {
    await split("base", "hr");
    await addModel(repository, join(DESK, "hr"), { name: "other" });
    expect((await apply(["hr"])).models).toEqual([]);
    expect((await apply(["hr", "other"])).models).toEqual(["hr", "other"]);
  });

  it("keep the originals of merged blocks small, and both are undone", async () => {
    await split("base", "support");
    const before = await repository.readModel("support");
    await apply(undefined, ["lowrank", "residual"]);
    const report = await reportSharing(repository);
    expect(report.tiers.lowrank.blocks).toBe(12);
    expect(report.kept_original_bytes).toBeLessThan(report.tiers.lowrank.saved_bytes * 1.3);
    await collect();
    expect(await problems()).toEqual([]);
    await undoMerges(repository, undefined);
    await isReadable(repository, "support");
    await undoResiduals(repository, undefined);
    await collect();
    expect(await repository.readModel("support")).toEqual(before);
    expect(await problems()).toEqual([]);
  });

  it("travel with their bases: what the manifest lists is enough", async () => {
    await split("base", "hr");
    await apply();
    const { digest, manifest } = await repository.readModel("hr");
    const other = await openRepository(await temporaryFolder(), { create: true });
    await mkdir(other.blobs.folder.blobs, { recursive: true });
    for (const blob of [digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)])
      await copyFile(repository.blobs.path(blob), other.blobs.path(blob));
    const index = JSON.parse(await readFile(join(repository.root, "index.json"), "utf8"));
    index.manifests = index.manifests.filter((entry: { digest: string }) => entry.digest === digest);
    await writeFile(join(other.root, "index.json"), JSON.stringify(index));
    await isReadable(other, "hr");
    expect((await checkIntegrity(other)).problems).toEqual([]);
  });

  it.each(["residual", "base"])("are found out when the %s is damaged", async (which) => {
    await split("base", "hr");
    await apply();
    await collect();
    const [{ tensor, base, blob }] = (await residualsOf("hr")) as [StoredResidual];
    await damage(which === "base" ? base : blob.digest);
    await expect(repository.blobs.read(tensor)).rejects.toMatchObject({ code: "blob_corrupt" });
    expect((await problems()).map(({ code }) => code)).toContain("blob_corrupt");
    await split("hr", "base");
    expect(await problems()).toEqual([]);
  });
});
