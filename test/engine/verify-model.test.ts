import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { verifyModel } from "../../src/engine/verify-model.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { FIXTURES, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

const BASE = "desk/optimum/base";
const EXACT = [
  BASE,
  "desk/genai/finance-lora",
  "exports/dyn/llama-23-sdpa",
  "exports/genai/llama-cpu-fp32",
  "exports/genai/qwen2-cpu-fp32",
  "exports/mobius/llama-default-f32",
  // Its adapter inputs are filled by the one adapter file beside it.
  "exports/olive/llama-lora-inputs",
  "exports/optimum/gpt2",
  "exports/optimum/phi3",
  "exports/optimum/qwen3",
];
const ROUNDED = ["desk/genai-int4/support", "exports/genai/llama_tied-cpu-int4-shared", "exports/tjs/model_q4"];

const DYNAMIC = "exports/tjs/model_quantized";

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures([...EXACT, ...ROUNDED, DYNAMIC]);
}, 120_000);
afterAll(async () => await split.remove());

const original = (path: string): string => join(FIXTURES, path);

describe("a chain against the file it came from", () => {
  it.each(EXACT)("%s: logits within 1e-4, the same greedy tokens", async (path) => {
    const verdict = await verifyModel(split.repository, path, { against: original(path) });
    expect(verdict).toMatchObject({ model: path, passed: true, top1: 1, greedy_equal: true, against: original(path) });
    expect(verdict.max_abs_logit_diff).toBeLessThan(1e-4);
    expect(verdict.kl).toBeLessThan(1e-6);
    expect(verdict.tokens).toBe(1 + 17 + 90);
    const { manifest } = await split.repository.readModel(path);
    expect(verdict.blobs_checked).toBe(1 + manifest.layers.length);
  });

  it("dynamic int8: the file's own operators, so the file's own tokens", async () => {
    const verdict = await verifyModel(split.repository, DYNAMIC, { against: original(DYNAMIC) });
    expect(verdict).toMatchObject({ passed: true, greedy_equal: true, top1: 1 });
    expect(verdict.max_abs_logit_diff).toBeLessThan(1e-4);
  });

  it.each(ROUNDED)("%s: as near as rounding to 8 bits allows", async (path) => {
    const verdict = await verifyModel(split.repository, path, { against: original(path) });
    expect(verdict).toMatchObject({ passed: true });
    expect(verdict.limit.max_abs_logit_diff).toBeNull();
    expect(verdict.kl).toBeLessThan(1e-2);
  });
});

describe("verifyModel", () => {
  it("binds the adapter it is given, and finds that another one is another model", async () => {
    const path = "exports/olive/llama-lora-inputs";
    const folder = await mkdtemp(join(tmpdir(), "blockllm-adapters-"));
    try {
      await cp(original(path), folder, { recursive: true });
      const adapter = join(original(path), "adapter_weights.onnx_adapter");
      // A byte of the last tensor's last float, so that the file stays an adapter.
      const bytes = await readFile(adapter);
      await writeFile(join(folder, "other.onnx_adapter"), bytes.fill(0x3f, bytes.length - 400, bytes.length - 100));
      const unclear = verifyModel(split.repository, path, { against: folder });
      await expect(unclear).rejects.toMatchObject({ code: "usage" });
      const right = await verifyModel(split.repository, path, { against: folder, adapter });
      expect(right.passed).toBe(true);
      const other = join(folder, "other.onnx_adapter");
      expect((await verifyModel(split.repository, path, { against: folder, adapter: other })).passed).toBe(false);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("compares with the reassembled chain when no original is given, and cleans up", async () => {
    const cache = join(split.repository.root, "cache");
    const before = await readdir(cache);
    const verdict = await verifyModel(split.repository, BASE);
    expect(verdict).toMatchObject({ passed: true, greedy_equal: true });
    expect(await readdir(cache)).toEqual(before);
  });

  it("takes an .onnx file and the tokens it is given", async () => {
    const against = join(original(BASE), "model.onnx");
    const verdict = await verifyModel(split.repository, BASE, { against, prompts: [[1, 2, 3], [4]] });
    expect(verdict).toMatchObject({ passed: true, tokens: 4 });
  });

  it.each(["desk/optimum/support", "desk/optimum/sales"])("does not take %s for the base", async (other) => {
    const verdict = await verifyModel(split.repository, BASE, { against: original(other) });
    expect(verdict.passed).toBe(false);
    expect(verdict.max_abs_logit_diff).toBeGreaterThan(1e-2);
    expect(verdict.kl).toBeGreaterThan(1e-6);
  });

  it("does not take int4 for the weights it was made from", async () => {
    const verdict = await verifyModel(split.repository, BASE, { against: original("desk/genai-int4/base") });
    expect(verdict.passed).toBe(false);
  });

  it("refuses tokens that the model does not have", async () => {
    const against = original(BASE);
    for (const prompts of [[[512]], [[-1]], [[1.5]], [[]]]) {
      await expect(verifyModel(split.repository, BASE, { against, prompts })).rejects.toMatchObject({ code: "usage" });
    }
  });

  it("stops when it is told to", async () => {
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(verifyModel(split.repository, BASE, { against: original(BASE), signal })).rejects.toThrow(
      /stop|abort/i,
    );
  });

  it("finds one flipped bit in any tensor before it runs anything", async () => {
    const parent = await mkdtemp(join(tmpdir(), "blockllm-verify-"));
    try {
      const root = join(parent, "blocks");
      await cp(split.repository.root, root, { recursive: true });
      const repository = await openRepository(root);
      const tensors = [...(await split.tensors(BASE)).values()];
      const { digest } = tensors[7]!;
      const path = repository.blobs.path(digest);
      const bytes = await readFile(path);
      bytes[bytes.length >> 1]! ^= 1;
      await rm(path);
      await writeFile(path, bytes);
      const verifying = verifyModel(repository, BASE, { against: original(BASE) });
      await expect(verifying).rejects.toMatchObject({ code: "blob_corrupt", message: expect.stringContaining(digest) });
      await rm(path);
      await expect(verifyModel(repository, BASE)).rejects.toMatchObject({ code: "blob_missing" });
    } finally {
      await rm(parent, { recursive: true, force: true });
    }
  });
});
