import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { exportModel } from "../../src/chain/export-model.ts";
import { openForward } from "../../src/engine/forward.ts";
import { openWholeModel } from "../../src/engine/whole-model.ts";
import { addModel } from "../../src/store/add-model.ts";
import { fixtureModels, goldenOf, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

/** One export of each form; of the desk, one that training changed everywhere, an adapter in the graph, and int4. */
const MODELS = [
  ...fixtureModels().filter((path) => path.startsWith("exports/")),
  "desk/optimum/research",
  "desk/genai/finance-lora",
  "desk/genai-int4/support",
];

let split: SplitFixtures;
let folder: string;
beforeAll(async () => {
  split = await splitFixtures(MODELS);
  folder = await mkdtemp(join(tmpdir(), "blockllm-export-"));
}, 120_000);
afterAll(async () => {
  await split.remove();
  await rm(folder, { recursive: true, force: true });
});

describe.each(MODELS)("%s joined again", (path) => {
  it("runs in ONNX Runtime and says what the chain and the original say", async () => {
    const { document } = split.models.get(path)!;
    const exported = await exportModel(split.repository, path, join(folder, path));
    const golden = goldenOf(path);
    const whole = await openWholeModel(exported.folder, {
      vocabSize: document.vocabSize,
      threads: 1,
      stepwise: false,
    });
    const chain = await openForward(split.repository, path, { threads: 1 });
    try {
      expect(await whole.greedy(golden.prompt, golden.greedy.length)).toEqual(golden.greedy);
      const tokens = Array.from({ length: 90 }, (_, i) => (i * 29 + 5) % document.vocabSize);
      const [a, b] = [await whole.logits(tokens), await chain.logits(tokens)];
      expect(a.length).toBe(b.length);
      // Activations rounded to 8 bits on the way: a last-bit difference can move such a rounding by a step.
      const tolerance = document.precision.startsWith("int") ? 0.2 : 1e-4;
      expect(a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)).toBeLessThan(tolerance);
    } finally {
      await whole.close();
      await chain.close();
    }
  });

  it("is the same blocks when it is split again", async ({ skip }) => {
    const { document } = split.models.get(path)!;
    // A sink is written as a key before the first, which is not taken for a sink again.
    skip(document.recognised.includes("attention sinks"));
    // Roundings to float16 are operators of their own there; the importer puts them where files of exporters imply them.
    skip(path === "exports/genai_v0.18.0/granite-webgpu-int4");
    const again = await addModel(split.repository, join(folder, path), { name: `${path}-again` });
    expect(again.document.chain.map(({ digest }) => digest)).toEqual(document.chain.map(({ digest }) => digest));
  });
});

describe("exportModel", () => {
  const MODEL = "exports/optimum/llama";

  it("writes the graph, its data and the files that came with the model, and nothing else", async () => {
    const target = join(folder, "whole");
    const exported = await exportModel(split.repository, MODEL, target);
    expect(exported).toMatchObject({ model: MODEL, folder: target });
    const beside = split.models.get(MODEL)!.document.files.map(({ name }) => name);
    expect(await readdir(target)).toEqual(["model.onnx", "model.onnx.data", ...beside].toSorted());
    expect(exported.files).toEqual(await readdir(target));
    expect(exported.bytes).toBeGreaterThan(600_000);
  });

  it("takes an empty folder, and refuses one that holds something", async () => {
    const target = join(folder, "taken");
    await mkdir(target);
    await exportModel(split.repository, MODEL, target);
    await expect(exportModel(split.repository, MODEL, target)).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("is not empty"),
    });
  });

  it("refuses a file in the folder's place", async () => {
    const target = join(folder, "file");
    await writeFile(target, "a file");
    await expect(exportModel(split.repository, MODEL, target)).rejects.toMatchObject({ code: "usage" });
  });

  it("refuses a folder without a name", async () => {
    await expect(exportModel(split.repository, MODEL, "")).rejects.toMatchObject({ code: "usage" });
  });

  it("knows only the repository's models", async () => {
    await expect(exportModel(split.repository, "nobody", join(folder, "nobody"))).rejects.toMatchObject({
      code: "model_not_found",
    });
    expect(await readdir(folder)).not.toContain("nobody");
  });

  it("leaves nothing behind when it is interrupted", async () => {
    const before = await readdir(folder);
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(exportModel(split.repository, MODEL, join(folder, "interrupted"), { signal })).rejects.toThrow(
      /stop|abort/i,
    );
    expect(await readdir(folder)).toEqual(before);
  });
});
