import { cp, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";

import { canonicalJson } from "../../src/fingerprint/canonical-json.ts";
import { addModel } from "../../src/store/add-model.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { MEDIA_TYPES } from "../../src/store/descriptor.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { removeWithReceipt } from "../../src/store/removal-receipt.ts";
import type { Repository } from "../../src/store/repository.ts";
import { reportSharing } from "../../src/store/sharing.ts";
import { markExactOnly } from "../../src/store/undo-merges.ts";
import { FIXTURES } from "../blocks/split-fixtures.ts";
import { putSmallModel, randomModel, storeParts } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const BASE = join(FIXTURES, "desk/optimum/base");
const ORIGIN = { folder: "somewhere", graph: "model.onnx", bytes: 12 };

let repository: Repository;

beforeEach(async () => {
  repository = await openRepository(await temporaryFolder(), { create: true });
});

describe("the same files in another folder", () => {
  it("are the same model document, manifest and blobs, and each name says where it came from", async () => {
    const base = await addModel(repository, BASE);
    const before = await checkIntegrity(repository);
    const folder = join(await temporaryFolder(), "renamed");
    await cp(BASE, folder, { recursive: true });
    await rename(join(folder, "model.onnx"), join(folder, "renamed.onnx"));
    const copy = await addModel(repository, folder);

    expect(copy).toMatchObject({ name: "renamed", digest: base.digest });
    expect(await checkIntegrity(repository)).toMatchObject({ bytes: before.bytes, blobs: before.blobs, problems: [] });
    const { per_model } = await reportSharing(repository);
    expect(per_model.map(({ unique_bytes }) => unique_bytes)).toEqual([0, 0]);
    expect((await repository.readModel("base")).origin).toMatchObject({ folder: "base", graph: "model.onnx" });
    expect((await repository.readModel("renamed")).origin).toMatchObject({ folder: "renamed", graph: "renamed.onnx" });
  });
});

describe("two names of one manifest", () => {
  beforeEach(async () => {
    const document = await storeParts(repository, randomModel(1));
    await repository.putModel("one", document, { origin: ORIGIN });
    await repository.putModel("other", document, { origin: { ...ORIGIN, folder: "elsewhere" } });
  });

  it("are marked one by one", async () => {
    await markExactOnly(repository, ["other"], { exactOnly: true });
    expect((await repository.readModel("one")).document.exactOnly).toBeUndefined();
    expect(await repository.readModel("other")).toMatchObject({
      document: { exactOnly: true },
      origin: { folder: "elsewhere" },
    });
    await markExactOnly(repository, ["other"], { exactOnly: false });
    expect((await repository.readModel("other")).digest).toBe((await repository.readModel("one")).digest);
  });

  it("are removed one by one: the first frees nothing, and what is left is whole", async () => {
    expect(await removeWithReceipt(repository, "one")).toMatchObject({
      frees: { blobs: 0, bytes: 0 },
      survives: { because: [{ model: "other" }] },
    });
    await collectGarbage(repository, { graceMs: 0 });
    expect((await checkIntegrity(repository)).problems).toEqual([]);
    expect((await repository.readModel("other")).origin).toMatchObject({ folder: "elsewhere" });
    expect((await removeWithReceipt(repository, "other")).survives.blobs).toBe(0);
  });
});

describe("where a name came from", () => {
  it("is the latest split's, and stays when something else puts the same model", async () => {
    const document = await storeParts(repository, randomModel(1));
    await repository.putModel("bot", document, { origin: ORIGIN });
    await repository.putModel("bot", document, { origin: { ...ORIGIN, folder: "moved" } });
    await repository.putModel("bot", document);
    expect((await repository.readModel("bot")).origin).toEqual({ ...ORIGIN, folder: "moved" });
    await repository.putModel("bot", await storeParts(repository, randomModel(1)), { replace: true });
    expect((await repository.readModel("bot")).origin).toBeNull();
  });

  it("is nothing where an annotation is missing or no number", async () => {
    await putSmallModel(repository, "bot", randomModel(1));
    const path = join(repository.root, "index.json");
    const index = JSON.parse(await readFile(path, "utf8"));
    Object.assign(index.manifests[0].annotations, {
      "ai.blockllm.source.folder": "f",
      "ai.blockllm.source.graph": "g",
      "ai.blockllm.source.bytes": "many",
    });
    await writeFile(path, JSON.stringify(index));
    expect((await repository.readModel("bot")).origin).toBeNull();
  });

  it("is read from documents of early versions, and leaves them when the model is written again", async () => {
    const document = await storeParts(repository, randomModel(1));
    const { digest } = await repository.putModel("bot", document);
    await writeEarlyModel("bot", { ...document, source: ORIGIN });
    const early = await repository.readModel("bot");
    expect(early.digest).not.toBe(digest);
    expect(early).toMatchObject({ origin: ORIGIN, document });
    expect((await checkIntegrity(repository)).problems).toEqual([]);

    // Not `name_taken`: it is the same model.
    expect(await repository.putModel("bot", document)).toMatchObject({ digest, origin: ORIGIN });
    expect(await repository.readModel("bot")).toMatchObject({ digest, origin: ORIGIN });

    await writeEarlyModel("bot", { ...document, source: ORIGIN });
    await markExactOnly(repository, ["bot"], { exactOnly: true });
    await markExactOnly(repository, ["bot"], { exactOnly: false });
    expect(await repository.readModel("bot")).toMatchObject({ digest, origin: ORIGIN });
  });
});

/** Puts the document under the name as it is, without an origin in index.json. */
async function writeEarlyModel(name: string, document: object): Promise<void> {
  const { manifest } = await repository.readModel(name);
  const config = await repository.blobs.put(canonicalJson(document), MEDIA_TYPES.model);
  const whole = { schemaVersion: 2, mediaType: MEDIA_TYPES.manifest, ...manifest, config };
  const { digest, size } = await repository.blobs.put(canonicalJson(whole), MEDIA_TYPES.manifest);
  const path = join(repository.root, "index.json");
  const index = JSON.parse(await readFile(path, "utf8"));
  const entry = index.manifests.find((found: { annotations: object }) => Object.values(found.annotations)[0] === name);
  for (const key of Object.keys(entry.annotations)) if (key.startsWith("ai.blockllm")) delete entry.annotations[key];
  Object.assign(entry, { digest, size });
  await writeFile(path, JSON.stringify(index));
}
