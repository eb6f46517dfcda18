import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { digestBytes } from "../../src/fingerprint/digest.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { contents, putSmallModel, randomModel, storeParts } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

describe("openRepository", () => {
  it("makes an OCI image layout, once", async () => {
    const root = join(await temporaryFolder(), "new", "blocks");
    await openRepository(root, { create: true });
    expect(JSON.parse(await readFile(join(root, "oci-layout"), "utf8"))).toEqual({ imageLayoutVersion: "1.0.0" });
    const repository = await openRepository(root);
    await putSmallModel(repository, "a", randomModel(1));
    expect(await (await openRepository(root, { create: true })).listModels()).toHaveLength(1);
  });

  it("says what to do when there is none", async () => {
    await expect(openRepository(join(await temporaryFolder(), "blocks"))).rejects.toMatchObject({
      code: "repository_not_found",
      hint: expect.stringContaining("blockllm split"),
    });
  });

  it("refuses folders and files that are something else", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "holiday.jpg"), "");
    await expect(openRepository(folder, { create: true })).rejects.toMatchObject({ code: "repository_invalid" });
    await expect(openRepository(join(folder, "holiday.jpg"))).rejects.toMatchObject({ code: "repository_invalid" });
    await mkdir(join(folder, "layout"));
    await writeFile(join(folder, "layout", "oci-layout"), `{"imageLayoutVersion": "9.0.0"}`);
    await expect(openRepository(join(folder, "layout"))).rejects.toMatchObject({ code: "repository_invalid" });
  });

  it("says so where no folder can be made", async ({ skip }) => {
    skip(!existsSync("/proc/self"), "only Linux has such a folder everywhere");
    await expect(openRepository("/proc/blockllm", { create: true })).rejects.toMatchObject({
      code: "io_failed",
      message: expect.stringContaining("/proc/blockllm cannot be made"),
    });
  });

  it("refuses an index.json that is damaged or gone", async () => {
    const root = await temporaryFolder();
    const repository = await openRepository(root, { create: true });
    await writeFile(join(root, "index.json"), `{"schemaVersion": 2, "manifests": [{"digest": "sha256:12"}]}`);
    await expect(repository.listModels()).rejects.toMatchObject({ code: "repository_invalid" });
    await rm(join(root, "index.json"));
    await expect(repository.listModels()).rejects.toMatchObject({ code: "repository_invalid" });
  });
});

describe("Repository", () => {
  it("gives back the model and the blocks that were put", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    const document = await storeParts(repository, randomModel(3));
    const put = await repository.putModel("bot:v2", document);

    const fresh = await openRepository(repository.root);
    const model = await fresh.readModel("bot:v2");
    expect(model).toEqual(put);
    expect(model.document).toEqual(document);
    const block = await fresh.readBlock(document.chain[1]!.digest);
    expect(block.parts[0]!.tensors.map(({ name }) => name)).toEqual(["norm", "weight"]);
    expect(await fresh.listModels()).toEqual([
      { name: "bot:v2", digest: put.digest, size: expect.any(Number), origin: null },
    ]);
  });

  it("lists every blob of a model once in its manifest, with true sizes", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    const same = { norm: contents("norm"), weight: contents("weight") };
    const { manifest } = await putSmallModel(repository, "twice", { layers: [same, same] });
    const digests = manifest.layers.map(({ digest }) => digest);
    expect(new Set(digests).size).toBe(digests.length);
    expect(digests).toHaveLength(5); // block, graph, norm, weight, tokenizer
    for (const { digest, size } of [manifest.config, ...manifest.layers]) {
      expect((await repository.blobs.read(digest, size)).byteLength).toBe(size);
    }
  });

  it("takes `latest` for the tag that is left out", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    await putSmallModel(repository, "bot:latest", randomModel(1));
    expect((await repository.readModel("bot")).name).toBe("bot");
  });

  it("does not give a taken name away unless told to, and puts the same model twice without complaint", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    const first = await storeParts(repository, randomModel(1));
    await repository.putModel("bot", first);
    await repository.putModel("bot", first);
    const second = await storeParts(repository, randomModel(1));
    await expect(repository.putModel("bot", second)).rejects.toMatchObject({
      code: "name_taken",
      hint: expect.stringContaining("--as"),
    });
    await repository.putModel("bot", second, { replace: true });
    expect((await repository.readModel("bot")).document).toEqual(second);
    expect(await repository.listModels()).toHaveLength(1);
  });

  it("refuses a model that lacks a blob, and stays as it was", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    const document = await storeParts(repository, randomModel(2));
    const block = await repository.readBlock(document.chain[0]!.digest);
    await repository.blobs.remove(block.parts[0]!.tensors[1]!.digest);
    await expect(repository.putModel("bot", document)).rejects.toMatchObject({ code: "blob_missing" });
    expect(await repository.listModels()).toEqual([]);
  });

  it("refuses names that no registry would take", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    for (const name of [
      "",
      "a b",
      "../up",
      "a:b:c",
      "-a",
      "a/",
      "a:",
      ":latest",
      "x".repeat(201),
      `a:${"x".repeat(129)}`,
    ]) {
      await expect(repository.readModel(name)).rejects.toMatchObject({ code: "name_invalid" });
    }
  });

  it("removes a name and nothing else", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    await putSmallModel(repository, "a", randomModel(1));
    const b = await putSmallModel(repository, "b", randomModel(1));
    await repository.removeModel("a");
    await expect(repository.readModel("a")).rejects.toMatchObject({
      code: "model_not_found",
      message: expect.stringContaining("it has b"),
    });
    await expect(repository.removeModel("a")).rejects.toMatchObject({ code: "model_not_found" });
    expect((await repository.readModel("b")).digest).toBe(b.digest);
  });

  it("keeps what other tools wrote into index.json and does not list it", async () => {
    const root = await temporaryFolder();
    const repository = await openRepository(root, { create: true });
    const image = await repository.blobs.put(Buffer.from(`{"config": 1}`), "x");
    const foreign = {
      mediaType: "application/vnd.oci.image.index.v1+json",
      digest: image.digest,
      size: image.size,
      platform: { os: "linux" },
    };
    await writeFile(
      join(root, "index.json"),
      JSON.stringify({ schemaVersion: 2, manifests: [foreign], annotations: { by: "oras" } }),
    );
    await putSmallModel(repository, "bot", randomModel(1));
    const index = JSON.parse(await readFile(join(root, "index.json"), "utf8"));
    expect(index.manifests[0]).toEqual(foreign);
    expect(index.annotations).toEqual({ by: "oras" });
    expect((await repository.listModels()).map(({ name }) => name)).toEqual(["bot"]);
  });

  it("lists a model whose index entry lost its artifactType on the way through another tool", async () => {
    const root = await temporaryFolder();
    const repository = await openRepository(root, { create: true });
    await putSmallModel(repository, "bot", randomModel(1));
    const index = JSON.parse(await readFile(join(root, "index.json"), "utf8"));
    delete index.manifests[0].artifactType;
    await writeFile(join(root, "index.json"), JSON.stringify(index));
    expect(await repository.listModels()).toHaveLength(1);
  });

  it("lists a damaged model of another tool, says what is wrong when it is read, and removes it", async () => {
    const root = await temporaryFolder();
    const repository = await openRepository(root, { create: true });
    const { digest } = await putSmallModel(repository, "bot", randomModel(1));
    await putSmallModel(repository, "sound", randomModel(1));
    const index = JSON.parse(await readFile(join(root, "index.json"), "utf8"));
    delete index.manifests[0].artifactType;
    await writeFile(join(root, "index.json"), JSON.stringify(index));
    await repository.blobs.remove(digest);
    expect(await repository.listModels()).toHaveLength(2);
    await expect(repository.readModel("bot")).rejects.toMatchObject({ code: "blob_missing" });
    await repository.removeModel("bot");
    expect((await repository.listModels()).map(({ name }) => name)).toEqual(["sound"]);
  });

  it("refuses a document that is not one", async () => {
    const repository = await openRepository(await temporaryFolder(), { create: true });
    const { digest } = await repository.blobs.put(Buffer.from("{}"), "x");
    await expect(repository.readBlock(digest)).rejects.toMatchObject({ code: "repository_invalid" });
    await expect(repository.readBlock(digestBytes(Buffer.from("?")))).rejects.toMatchObject({ code: "blob_missing" });
  });
});
