import { readdir, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { MEDIA_TYPES } from "../../src/store/descriptor.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { contents, putSmallModel, randomModel, storeParts } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const HOUR_MS = 3_600_000;

describe("collectGarbage", () => {
  it("removes what only a removed model used, and what it freed is what check called garbage", async () => {
    const repository = await newRepository();
    const shared = randomModel(2).layers;
    await putSmallModel(repository, "a", { layers: shared });
    await putSmallModel(repository, "b", { layers: [...shared, ...randomModel(1).layers] });
    await repository.removeModel("b");
    const { garbage_blobs, garbage_bytes } = await checkIntegrity(repository);

    const collected = await collectGarbage(repository, { clock: later(2 * HOUR_MS) });
    expect(collected).toMatchObject({ dry_run: false, removed_bytes: garbage_bytes, young_blobs: 0 });
    expect(collected.removed).toHaveLength(garbage_blobs);
    expect(garbage_blobs).toBe(6); // manifest, config, block, graph, two tensors
    expect(await checkIntegrity(repository)).toMatchObject({ models: 1, problems: [], garbage_blobs: 0 });
  });

  it("only says what would go when asked to", async () => {
    const repository = await newRepository();
    const { digest } = await repository.blobs.put(Buffer.from("garbage"), MEDIA_TYPES.tensor);
    const collected = await collectGarbage(repository, { dryRun: true, graceMs: 0 });
    expect(collected).toMatchObject({ dry_run: true, removed: [{ digest, bytes: 7 }] });
    expect(await repository.blobs.has(digest)).toBe(true);
  });

  it("spares the blobs of a model that is still being added", async () => {
    const repository = await newRepository();
    const document = await storeParts(repository, randomModel(2));
    expect(await collectGarbage(repository)).toMatchObject({ removed: [] });
    await repository.putModel("a", document);
    expect(await checkIntegrity(repository)).toMatchObject({ problems: [] });
  });

  it("spares an old blob that a writer has just found instead of writing it", async () => {
    const repository = await newRepository();
    const { digest } = await repository.blobs.put(contents("old"), MEDIA_TYPES.tensor);
    await utimes(repository.blobs.path(digest), 1, 1);
    await repository.blobs.put(contents("old"), MEDIA_TYPES.tensor);
    expect(await collectGarbage(repository)).toMatchObject({ removed: [], young_blobs: 1 });
  });

  it("cannot make a broken model, even with no grace at all", async () => {
    const repository = await newRepository();
    const model = randomModel(2);
    const document = await storeParts(repository, model);
    await collectGarbage(repository, { graceMs: 0 });
    const fresh = await openRepository(repository.root);
    await expect(fresh.putModel("a", document)).rejects.toMatchObject({ code: "blob_missing" });
    expect(await fresh.listModels()).toEqual([]);
    await putSmallModel(fresh, "a", model);
    expect(await checkIntegrity(fresh)).toMatchObject({ models: 1, problems: [] });
  });

  it("removes half-written files and abandoned lock drafts, when they are old", async () => {
    const repository = await newRepository();
    await writeFile(join(repository.blobs.folder.incoming, "12-half"), "half");
    await writeFile(join(repository.root, "index.lock.draft"), "{}");
    expect(await collectGarbage(repository)).toMatchObject({ temporaries: 0 });
    expect(await collectGarbage(repository, { clock: later(2 * HOUR_MS) })).toMatchObject({ temporaries: 2 });
    expect(await readdir(repository.blobs.folder.incoming)).toEqual([]);
    expect((await readdir(repository.root)).toSorted()).toEqual(["blobs", "incoming", "index.json", "oci-layout"]);
  });

  it("touches nothing when a manifest cannot be read", async () => {
    const repository = await newRepository();
    const { digest } = await putSmallModel(repository, "a", randomModel(1));
    await repository.blobs.put(Buffer.from("garbage"), MEDIA_TYPES.tensor);
    await rm(repository.blobs.path(digest));
    const before = await readdir(repository.blobs.folder.blobs);
    await expect(collectGarbage(repository, { graceMs: 0 })).rejects.toMatchObject({ code: "blob_missing" });
    expect(await readdir(repository.blobs.folder.blobs)).toEqual(before);
  });

  it("keeps what other tools attached: signatures, nested indexes", async () => {
    const repository = await newRepository();
    const put = (value: object) => repository.blobs.put(Buffer.from(JSON.stringify(value)), MEDIA_TYPES.manifest);
    const signature = await repository.blobs.put(Buffer.from("signature"), "x");
    const empty = await repository.blobs.put(Buffer.from("{}"), "application/vnd.oci.empty.v1+json");
    const inner = await put({ schemaVersion: 2, config: empty, layers: [signature] });
    const nested = await put({ schemaVersion: 2, manifests: [inner] });
    await writeFile(join(repository.root, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [nested] }));
    expect(await collectGarbage(repository, { graceMs: 0 })).toMatchObject({ removed: [], kept_blobs: 4 });
  });
});

function later(ms: number) {
  return { now: () => Date.now() + ms };
}

async function newRepository(): Promise<Repository> {
  return await openRepository(await temporaryFolder(), { create: true });
}
