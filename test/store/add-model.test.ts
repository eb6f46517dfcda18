import { cp, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";

import { readModel } from "../../src/onnx/read-model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { addModel } from "../../src/store/add-model.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { FIXTURES } from "../blocks/split-fixtures.ts";
import { hostileFiles } from "../onnx/hostile-files.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const LLAMA = join(FIXTURES, "exports/optimum/llama");
const OTHER = join(FIXTURES, "exports/genai/qwen2-cpu-fp32");
const GENAI = join(FIXTURES, "exports/genai/llama-cpu-fp32");

describe("the name of a model", () => {
  it("is its folder's, or the one given, with the tag given", async () => {
    const repository = await newRepository();
    expect((await addModel(repository, LLAMA)).name).toBe("llama");
    expect((await addModel(repository, LLAMA, { name: "team/bot" })).name).toBe("team/bot");
    expect((await addModel(repository, LLAMA, { name: "bot", as: "v2" })).name).toBe("bot:v2");
    expect((await addModel(repository, LLAMA, { as: "latest" })).name).toBe("llama");
    expect((await addModel(repository, LLAMA, { name: "bot:v1", as: "v3" })).name).toBe("bot:v3");
    const names = (await repository.listModels()).map(({ name }) => name);
    expect(names).toEqual(["bot:v2", "bot:v3", "llama", "team/bot"]);
  });

  it("is the file's for a graph of its own name, the folder's for model.onnx", async () => {
    const [repository, folder] = [await newRepository(), await temporaryFolder()];
    await cp(join(LLAMA, "model.onnx"), join(folder, "support-bot.onnx"));
    expect((await addModel(repository, join(folder, "support-bot.onnx"))).name).toBe("support-bot");
    expect((await addModel(repository, join(LLAMA, "model.onnx"))).name).toBe("llama");
  });

  it("is the folder's above onnx/", async () => {
    const [repository, folder] = [await newRepository(), join(await temporaryFolder(), "legal-bot")];
    await cp(LLAMA, folder, { recursive: true });
    await mkdir(join(folder, "onnx"));
    await rename(join(folder, "model.onnx"), join(folder, "onnx", "model.onnx"));
    const { name, document } = await addModel(repository, folder);
    expect(name).toBe("legal-bot");
    expect(document.files.map((file) => file.name)).toContain("tokenizer.json");
    expect(document.contextLength).toBe(256);
  });

  it.each(["", "no spaces", "-dash", "a:b:c", "ä", "a".repeat(201), "../up"])("cannot be %j", async (name) => {
    const repository = await newRepository();
    await expect(addModel(repository, LLAMA, { name })).rejects.toMatchObject({ code: "name_invalid" });
    expect(await repository.listModels()).toEqual([]);
  });

  it("is kept by whoever has it, unless it is taken over", async () => {
    const repository = await newRepository();
    const first = await addModel(repository, LLAMA, { name: "bot" });
    await expect(addModel(repository, OTHER, { name: "bot" })).rejects.toMatchObject({ code: "name_taken" });
    expect((await repository.readModel("bot")).digest).toBe(first.digest);
    const second = await addModel(repository, OTHER, { name: "bot", replace: true });
    expect((await repository.readModel("bot")).digest).toBe(second.digest);
    expect(await repository.listModels()).toHaveLength(1);
  });
});

describe("adding a model", () => {
  it("a second time changes nothing", async () => {
    const repository = await newRepository();
    const first = await addModel(repository, LLAMA);
    const before = await blobsOf(repository);
    const second = await addModel(repository, LLAMA);
    expect(second).toEqual(first);
    expect(await blobsOf(repository)).toEqual(before);
  });

  it("that another exporter wrote adds its documents and no tensor", async () => {
    const repository = await newRepository();
    await addModel(repository, LLAMA, { name: "a" });
    const before = await blobsOf(repository);
    const { document } = await addModel(repository, GENAI, { name: "b" });
    const added = [...(await blobsOf(repository))].filter(([digest]) => !before.has(digest));
    // The model's document, its manifest, and the files beside the graph.
    expect(added.length).toBeLessThanOrEqual(2 + document.files.length);
  });

  it("says what came with it and what it came from", async () => {
    const repository = await newRepository();
    const { document } = await addModel(repository, LLAMA);
    expect(document).toMatchObject({
      version: 1,
      family: "llama",
      layers: 3,
      hiddenSize: 64,
      vocabSize: 320,
      contextLength: 256,
      beginToken: 1,
      warnings: [],
    });
    expect(document.endTokens.length).toBeGreaterThan(0);
    expect(document.files.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["tokenizer.json", "tokenizer_config.json", "config.json"]),
    );
    const { origin } = await repository.readModel("llama");
    expect(origin).toMatchObject({ folder: "llama", graph: "model.onnx" });
    expect(origin!.bytes).toBeGreaterThan(600_000);
    expect(document.recognised.join("\n")).toMatch(/rotary embedding: 16 elements per head, halves, base 10000/);
  });

  it("without a tokenizer warns", async () => {
    const [repository, folder] = [await newRepository(), await temporaryFolder()];
    await cp(join(LLAMA, "model.onnx"), join(folder, "model.onnx"));
    const { document } = await addModel(repository, folder, { name: "bare" });
    expect(document.warnings).toEqual([expect.stringContaining("no tokenizer.json")]);
    expect(document).toMatchObject({ family: "unknown", contextLength: null, endTokens: [], beginToken: null });
  });

  it("reports the bytes of its weights as they are stored", async () => {
    const seen: { bytes: number; totalBytes: number }[] = [];
    await addModel(await newRepository(), LLAMA, { onProgress: (progress) => seen.push(progress) });
    expect(seen.map(({ bytes }) => bytes)).toEqual(seen.map(({ bytes }) => bytes).toSorted((a, b) => a - b));
    expect(seen.at(-1)!.bytes).toBe(seen.at(-1)!.totalBytes);
    expect(seen.at(-1)!.totalBytes).toBeGreaterThan(600_000);
  });
});

describe("what is no model", () => {
  it.each<[string, (folder: string) => Promise<string>, object]>([
    ["a path that is not there", async (folder) => join(folder, "absent"), { code: "model_not_found" }],
    [
      "a folder without a graph",
      async (folder) => folder,
      { code: "model_not_found", message: expect.stringContaining("no .onnx file") },
    ],
    [
      "a folder with several graphs",
      async (folder) => {
        for (const name of ["a.onnx", "b.onnx"]) await cp(join(LLAMA, "model.onnx"), join(folder, name));
        return folder;
      },
      {
        code: "model_not_found",
        message: expect.stringContaining("2 .onnx files"),
        hint: expect.stringMatching(/a\.onnx.*b\.onnx/),
      },
    ],
    [
      "a file of another kind",
      async (folder) => {
        await writeFile(join(folder, "model.gguf"), "GGUF");
        return join(folder, "model.gguf");
      },
      { code: "model_invalid" },
    ],
    [
      "a configuration that is not JSON",
      async (folder) => {
        await cp(LLAMA, folder, { recursive: true });
        await writeFile(join(folder, "config.json"), "{");
        return folder;
      },
      { code: "model_invalid", message: expect.stringContaining("config.json") },
    ],
    [
      "a graph whose data file is gone",
      async (folder) => {
        await cp(GENAI, folder, { recursive: true });
        await rm(join(folder, "model.onnx.data"));
        return folder;
      },
      { code: "external_data_missing" },
    ],
    [
      "a graph whose data file was cut off",
      async (folder) => {
        await cp(GENAI, folder, { recursive: true });
        await writeFile(join(folder, "model.onnx.data"), new Uint8Array(1000));
        return folder;
      },
      { code: "external_data_short" },
    ],
  ])("%s", async (_, prepare, error) => {
    const repository = await newRepository();
    const path = await prepare(await temporaryFolder());
    await expect(addModel(repository, path, { name: "bad" })).rejects.toMatchObject({
      hint: expect.any(String),
      ...error,
    });
    await expectSound(repository, 0);
  });

  it.each(hostileFiles().map(({ name, code }) => ({ name, code })))("$name: $code", async ({ name, code }) => {
    const repository = await newRepository();
    await expect(addModel(repository, join(FIXTURES, "hostile", name), { name: "bad" })).rejects.toMatchObject({
      code,
    });
    await expectSound(repository, 0);
  });

  it("is no decoder: a graph without past inputs", async () => {
    const [repository, folder] = [await newRepository(), await temporaryFolder()];
    const model = await readModel(join(LLAMA, "model.onnx"));
    model.graph.inputs = model.graph.inputs.filter(({ name }) => !name.startsWith("past"));
    await writeFile(join(folder, "model.onnx"), writeModel(model));
    await expect(addModel(repository, folder, { name: "bad" })).rejects.toMatchObject({
      code: "model_unsupported",
      message: expect.stringMatching(/past key-value inputs/),
      hint: expect.stringContaining("optimum-cli"),
    });
    await expectSound(repository, 0);
  });
});

describe("an interrupted split", () => {
  it("leaves a sound repository wherever the signal comes, and can be done again", async () => {
    const repository = await newRepository();
    await addModel(repository, OTHER, { name: "other" });
    for (const at of [0, 1, 2, 5, 9]) {
      const controller = new AbortController();
      if (at === 0) controller.abort(new Error("stop"));
      let steps = 0;
      const onProgress = (): void => {
        if (++steps === at) controller.abort(new Error("stop"));
      };
      const adding = addModel(repository, LLAMA, { signal: controller.signal, onProgress });
      await expect(adding).rejects.toThrow(/stop|abort/i);
      await expectSound(repository, 1);
    }
    await addModel(repository, LLAMA);
    await expectSound(repository, 2);
  });

  it("by a full disk says so and leaves a sound repository", async () => {
    const repository = await newRepository();
    const { blobs } = repository;
    const putMany = blobs.putMany.bind(blobs);
    let calls = 0;
    blobs.putMany = async (sources, options) => {
      // The second call stores the weights: some of them, then the disk is full.
      if (++calls !== 2) return await putMany(sources, options);
      await putMany([...sources].slice(0, 3), options);
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    };
    await expect(addModel(repository, LLAMA)).rejects.toThrow(/ENOSPC|space/);
    await expectSound(repository, 0);
    blobs.putMany = putMany;
    await addModel(repository, LLAMA);
    await expectSound(repository, 1);
  });

  it("by a source that is cut off while it is read says so", async () => {
    const [repository, folder] = [await newRepository(), await temporaryFolder()];
    await cp(GENAI, folder, { recursive: true });
    const putMany = repository.blobs.putMany.bind(repository.blobs);
    let calls = 0;
    repository.blobs.putMany = async (sources, options) => {
      if (++calls === 2) await writeFile(join(folder, "model.onnx.data"), new Uint8Array(100));
      return await putMany(sources, options);
    };
    await expect(addModel(repository, folder, { name: "bad" })).rejects.toThrow(/changed while it was read/);
    await expectSound(repository, 0);
  });
});

async function newRepository(): Promise<Repository> {
  return await openRepository(join(await temporaryFolder(), "blocks"), { create: true });
}

async function blobsOf(repository: Repository): Promise<Map<string, number>> {
  const blobs = new Map<string, number>();
  for await (const { digest, size } of repository.blobs.list()) blobs.set(digest, size);
  return blobs;
}

/** Everything that models name is there and intact; what nothing names is garbage, which is allowed. */
async function expectSound(repository: Repository, models: number): Promise<void> {
  const fresh = await openRepository(repository.root);
  expect(await fresh.listModels()).toHaveLength(models);
  const report = await checkIntegrity(fresh);
  expect(report, basename(repository.root)).toMatchObject({ problems: [] });
}
