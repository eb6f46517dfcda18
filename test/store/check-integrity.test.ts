import { chmod, mkdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import type { BlockDocument } from "../../src/blocks/block.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { MEDIA_TYPES } from "../../src/store/descriptor.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { contents, graphOf, putSmallModel, randomModel, storeParts } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

describe("checkIntegrity", () => {
  it("finds a sound repository sound and counts it", async () => {
    const repository = await newRepository();
    const { manifest } = await putSmallModel(repository, "a", randomModel(2));
    const report = await checkIntegrity(repository);
    expect(report).toMatchObject({ models: 1, problems: [], garbage_blobs: 0, garbage_bytes: 0, temporaries: 0 });
    expect(report.blobs).toBe(manifest.layers.length + 2);
  });

  it("tells a fault of a shared tensor once, with every model that it breaks", async () => {
    const repository = await newRepository();
    const shared = randomModel(1);
    await putSmallModel(repository, "a", shared);
    await putSmallModel(repository, "b", { layers: [...shared.layers, ...randomModel(1).layers] });
    const tensor = (await tensorsOf(repository, "a"))[1]!;
    const path = repository.blobs.path(tensor.digest);
    await chmod(path, 0o644);
    await writeFile(path, contents("other", tensor.bytes));
    const { problems } = await checkIntegrity(repository);
    expect(problems).toEqual([
      { code: "blob_corrupt", message: expect.stringContaining(tensor.digest), models: ["a", "b"] },
    ]);
  });

  it.each(["config", "manifest", "block", "graph", "tensor", "tokenizer"])("misses a %s", async (which) => {
    const repository = await newRepository();
    await putSmallModel(repository, "a", randomModel(1));
    const digest = (await digestsOf(repository, "a"))[which]!;
    await repository.blobs.remove(digest);
    const fresh = await openRepository(repository.root);
    const { problems } = await checkIntegrity(fresh);
    expect(problems).toEqual([{ code: "blob_missing", message: expect.stringContaining(digest), models: ["a"] }]);
  });

  it("finds a blob that was cut short", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "a", randomModel(1));
    const { tensor } = await digestsOf(repository, "a");
    await chmod(repository.blobs.path(tensor!), 0o644);
    await truncate(repository.blobs.path(tensor!), 3);
    expect((await checkIntegrity(repository)).problems).toMatchObject([{ code: "blob_corrupt", models: ["a"] }]);
  });

  it("finds a blob that cannot be read", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "a", randomModel(1));
    const { tensor } = await digestsOf(repository, "a");
    await repository.blobs.remove(tensor!);
    await mkdir(repository.blobs.path(tensor!)); // EISDIR, as other disks say EIO
    expect((await checkIntegrity(repository)).problems).toMatchObject([{ code: "blob_corrupt", models: ["a"] }]);
  });

  it("finds an index that cannot be read", async () => {
    const repository = await newRepository();
    await writeFile(join(repository.root, "index.json"), "{");
    expect((await checkIntegrity(repository)).problems).toMatchObject([{ code: "repository_invalid", models: [] }]);
  });

  it("finds a graph whose weights are not the block's", async () => {
    const repository = await newRepository();
    const document = await storeParts(repository, randomModel(1));
    const block = await repository.readBlock(document.chain[0]!.digest);
    const stranger = await repository.blobs.put(contents("stranger", 4096), MEDIA_TYPES.tensor);
    const [part] = block.parts;
    const graph = await repository.blobs.put(
      graphOf([part!.tensors[0]!, { ...part!.tensors[1]!, digest: stranger.digest }]),
      MEDIA_TYPES.graph,
    );
    const wrong: BlockDocument = { ...block, parts: [{ ...part!, graph: graph.digest, graphBytes: graph.size }] };
    const { digest } = await repository.putBlock(wrong);
    await repository.putModel("a", { ...document, chain: [{ ...document.chain[0]!, digest }] });
    expect((await checkIntegrity(repository)).problems).toEqual([
      { code: "repository_invalid", message: expect.stringContaining("weight"), models: ["a"] },
    ]);
  });

  it("counts what is left over and does not call it a problem", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "a", randomModel(1));
    const garbage = await repository.blobs.put(Buffer.from("left over"), MEDIA_TYPES.tensor);
    await writeFile(join(repository.blobs.folder.incoming, "1-half"), "half");
    const before = await readFile(join(repository.root, "index.json"));
    const report = await checkIntegrity(repository);
    expect(report).toMatchObject({ problems: [], garbage_blobs: 1, garbage_bytes: garbage.size, temporaries: 1 });
    expect(await readFile(join(repository.root, "index.json"))).toEqual(before);
  });

  it("does not mind a repository without any blob", async () => {
    const repository = await newRepository();
    await rm(join(repository.root, "incoming"), { recursive: true });
    expect(await checkIntegrity(repository)).toMatchObject({ models: 0, blobs: 0, problems: [] });
  });
});

async function newRepository(): Promise<Repository> {
  return await openRepository(await temporaryFolder(), { create: true });
}

async function tensorsOf(repository: Repository, name: string) {
  const { document } = await repository.readModel(name);
  return (await repository.readBlock(document.chain[0]!.digest)).parts[0]!.tensors;
}

async function digestsOf(repository: Repository, name: string) {
  const { digest, document, manifest } = await repository.readModel(name);
  const block = document.chain[0]!.digest;
  const [part] = (await repository.readBlock(block)).parts;
  return {
    manifest: digest,
    config: manifest.config.digest,
    block,
    graph: part!.graph,
    tensor: part!.tensors[0]!.digest,
    tokenizer: document.files[0]!.digest,
  } as Record<string, typeof digest>;
}
