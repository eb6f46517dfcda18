import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import type { BlockDocument, TensorEntry } from "../../src/blocks/block.ts";
import { addModel, type AddedModel } from "../../src/store/add-model.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";

export const FIXTURES = fileURLToPath(new URL("../../fixtures", import.meta.url));

/** Every folder of fixtures/ that holds a model.onnx, as a path below fixtures/. */
export function fixtureModels(): string[] {
  const files = ["exports", "desk"].flatMap((room) =>
    readdirSync(join(FIXTURES, room), { recursive: true, encoding: "utf8" }).map((file) => join(room, file)),
  );
  return files
    .filter((file) => file.endsWith("model.onnx"))
    .map((file) => relative(FIXTURES, dirname(join(FIXTURES, file))).replaceAll("\\", "/"))
    .toSorted();
}

/** In `npm run test:large`, which takes minutes. */
export const TESTS_ALL = process.env["BLOCKLLM_TEST_EVERY_FIXTURE"] !== undefined;

/** Of every kind of weights, attention and exporter, and some that share blocks; what takes seconds per model runs on these. */
export const EVERY_KIND: readonly string[] = TESTS_ALL
  ? fixtureModels()
  : `desk/genai/base desk/genai/finance-lora desk/genai-int4/support desk/optimum/base desk/optimum/hr desk/optimum/sales
    exports/contrib/gpt2-fp16 exports/genai/llama-cpu-int4 exports/genai_v0.18.0/gemma2-cpu-int4
    exports/genai_v0.18.0/gemma3-cpu-kv-int8 exports/genai_v0.18.0/gpt-oss-cpu-fp32
    exports/genai_v0.18.0/llama-cpu-int4-b64-asym exports/genai_v0.18.0/llama-gptq-act-cpu-int4
    exports/olive/llama-lora-inputs exports/optimum/bloom exports/optimum/qwen3-moe exports/tjs/model_bnb4
    exports/tjs/model_q4 exports/tjs/model_q4_qdq exports/tjs/model_quantized`.split(/\s+/);

/** Fixtures that are one opaque block. */
export const KEPT_WHOLE = [
  "exports/dyn/granitemoe-18",
  "exports/genai_v0.18.0/gemma3-cpu-kv-int8",
  "exports/genai_v0.18.0/lfm2-cpu-fp32",
  "exports/genai_v0.18.0/phi3-long-cpu-fp32",
];

export interface Golden {
  prompt: number[];
  greedy: number[];
  first_logits_top16: [number, number][];
  first_logits_norm: number;
}

export function goldenOf(path: string): Golden {
  return JSON.parse(readFileSync(join(FIXTURES, path, "golden.json"), "utf8")) as Golden;
}

export interface SplitFixtures {
  repository: Repository;
  /** By path below fixtures/, which is also the model's name. */
  models: Map<string, AddedModel>;
  /** Places in the chain at which two models differ, as "attention 4" or "head". */
  differing: (a: string, b: string) => string[];
  blocks: (path: string) => Promise<BlockDocument[]>;
  /** Every tensor of the model's blocks, by digest. */
  tensors: (path: string) => Promise<Map<string, TensorEntry>>;
  remove: () => Promise<void>;
}

/** A repository of its own with these models of fixtures/. */
export async function splitFixtures(paths: readonly string[]): Promise<SplitFixtures> {
  const root = await mkdtemp(join(tmpdir(), "blockllm-fixtures-"));
  const repository = await openRepository(join(root, "blocks"), { create: true });
  const models = new Map<string, AddedModel>();
  for (const path of paths) models.set(path, await addModel(repository, join(FIXTURES, path), { name: path }));
  const chainOf = (path: string) => models.get(path)!.document.chain;
  const blocks = async (path: string) =>
    await Promise.all(chainOf(path).map(async ({ digest }) => await repository.readBlock(digest)));
  return {
    repository,
    models,
    blocks,
    differing: (a, b) =>
      chainOf(a)
        .filter(({ digest }, place) => digest !== chainOf(b)[place]!.digest)
        .map(({ kind, layer }) => (layer === null ? kind : `${kind} ${layer}`)),
    tensors: async (path) =>
      new Map(
        (await blocks(path)).flatMap(({ parts }) =>
          parts.flatMap((part) => part.tensors.map((tensor) => [tensor.digest, tensor] as const)),
        ),
      ),
    remove: async () => await rm(root, { recursive: true, force: true }),
  };
}
