import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { engineConfig } from "../../src/engine/engine-config.ts";
import { openForward } from "../../src/engine/forward.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import { addModel } from "../../src/store/add-model.ts";
import {
  FIXTURES,
  fixtureModels,
  goldenOf,
  KEPT_WHOLE,
  splitFixtures,
  type SplitFixtures,
} from "../blocks/split-fixtures.ts";

interface Expected {
  exporter: string;
  family: string;
  precision: string;
  layers: number;
  contextLength: number | null;
  tokenizer: boolean;
  /** Attention and MLP take the same row: the MLP lies in the attention's out part. */
  parallel?: boolean;
  /** How far a logit may be from Python's, where that is not what its precision allows. */
  tolerance?: number;
}

const OPTIMUM = "optimum (TorchScript), opset 18";
const DYNAMO_18 = "torch.onnx dynamo, opset 18";
const QUANTISER = "transformers.js (onnx.quantize), opset 18";
const GENAI = "onnxruntime-genai, opset 21";
const GENAI_18 = "onnxruntime-genai, opset 22";
const tiny = { layers: 3, precision: "fp32", family: "llama", contextLength: 256, tokenizer: true };
/** Exported without the files that would say the family, the context or the tokenizer. */
const bare = { ...tiny, family: "unknown", contextLength: null, tokenizer: false };

const narrow = { ...tiny, layers: 2, tokenizer: false };

/** What each exporter's file turns out to be. A new fixture needs a line here. */
const CUT: Record<string, Expected> = {
  "exports/contrib/gpt2-fp16": {
    ...bare,
    exporter: "onnxruntime.transformers, opset 17",
    precision: "fp16",
    contextLength: 256,
  },
  "exports/dyn/falcon-18": { ...narrow, exporter: DYNAMO_18, family: "falcon", parallel: true },
  "exports/dyn/hunyuan-23": { ...narrow, exporter: "torch.onnx dynamo, opset 23", family: "hunyuan_v1_dense" },
  "exports/dyn/olmoe-18": { ...narrow, exporter: DYNAMO_18, family: "olmoe" },
  "exports/dyn/llama-18-sdpa": { ...bare, exporter: "torch.onnx dynamo, opset 18" },
  "exports/dyn/llama-23-sdpa": { ...bare, exporter: "torch.onnx dynamo, opset 23" },
  "exports/genai/llama-cpu-fp32": { ...tiny, exporter: GENAI },
  "exports/genai/llama-cpu-int4": { ...tiny, exporter: GENAI, precision: "int4" },
  "exports/genai/llama-cuda-fp16": { ...tiny, exporter: GENAI, precision: "fp16" },
  "exports/genai/llama_tied-cpu-int4-shared": { ...tiny, exporter: GENAI, precision: "int4" },
  "exports/genai/qwen2-cpu-fp32": { ...tiny, exporter: GENAI, family: "qwen2" },
  "exports/genai4/llama-cpu-fp32-lora": { ...tiny, exporter: GENAI },
  "exports/genai_v0.9.2/llama-cpu-fp32": { ...tiny, exporter: GENAI },
  // Takes several new tokens only without a past: followed one token at a time.
  "exports/genai_v0.9.2/llama-cuda-fp32": { ...tiny, exporter: GENAI, tokenizer: false },
  ...genai18({
    "gemma2-cpu-int4": { family: "gemma2", precision: "int4" },
    "gemma3-dml-fp16": { family: "gemma3_text", precision: "fp16" },
    "gpt-oss-cpu-fp32": { family: "gptoss", layers: 2, tokenizer: false },
    // Columns of each projection in another order: a group index.
    "llama-gptq-act-cpu-int4": { precision: "int4" },
    // Kernels that take rows in pairs.
    "llama-cpu-int4-b64-asym": { precision: "int4" },
    "granite-cpu-int4": { family: "granite", precision: "int4" },
    // float16 between the products: rounded where ONNX Runtime rounds.
    "granite-webgpu-int4": { family: "granite", precision: "int4", tokenizer: false, tolerance: 1e-4 },
    "mistral-webgpu-int4": { family: "mistral", precision: "int4" },
    "phi-cpu-int4": { family: "phi", precision: "int4", parallel: true },
  }),
  "exports/mobius/llama-default-f32": { ...bare, exporter: "mobius, opset 24", contextLength: 256 },
  "exports/mobius/mixtral-default-f32": { ...narrow, exporter: "mobius, opset 24", family: "mixtral" },
  "exports/mobius/llama-static-f32": { ...tiny, exporter: "mobius, opset 24", tokenizer: false },
  "exports/olive/llama-lora-inputs": { ...tiny, exporter: GENAI, tokenizer: false },
  "exports/optimum-merged/llama-tied": { ...tiny, exporter: "optimum-onnx, opset 14", tokenizer: false },
  "exports/optimum/bloom": { ...tiny, exporter: OPTIMUM, family: "bloom", contextLength: null },
  "exports/optimum/cohere": { ...tiny, exporter: OPTIMUM, family: "cohere", tokenizer: false, parallel: true },
  "exports/optimum/deepseek-v3": { ...narrow, exporter: OPTIMUM, family: "deepseek_v3" },
  "exports/optimum/gpt-oss": { ...narrow, exporter: OPTIMUM, family: "gpt_oss" },
  "exports/optimum/qwen3-moe": { ...narrow, exporter: OPTIMUM, family: "qwen3_moe" },
  "exports/optimum/falcon": { ...tiny, exporter: OPTIMUM, family: "falcon", tokenizer: false, parallel: true },
  "exports/optimum/gpt2": { ...tiny, exporter: OPTIMUM, family: "gpt2" },
  "exports/optimum/llama": { ...tiny, exporter: OPTIMUM },
  "exports/optimum/olmo2": { ...tiny, exporter: OPTIMUM, family: "olmo2", tokenizer: false },
  "exports/optimum/opt": { ...tiny, exporter: OPTIMUM, family: "opt", tokenizer: false },
  "exports/optimum/phi3": { ...tiny, exporter: OPTIMUM, family: "phi3" },
  "exports/optimum/qwen3": { ...tiny, exporter: OPTIMUM, family: "qwen3" },
  "exports/optimum/smollm3": { ...tiny, exporter: OPTIMUM, family: "smollm3", tokenizer: false },
  // The head is the embedding table behind a Transpose: its rows stay float32.
  "exports/tjs/falcon_quantized": {
    ...narrow,
    exporter: QUANTISER,
    family: "falcon",
    precision: "int8+int8 dynamic",
    parallel: true,
    tolerance: 1e-4,
  },
  "exports/ort/llama-dynamic-extended": { ...narrow, exporter: QUANTISER, precision: "int8 dynamic" },
  "exports/ort/llama-extended": { ...narrow, exporter: OPTIMUM },
  "exports/ort/llama-static": { ...narrow, exporter: QUANTISER, precision: "fp32+int8 static" },
  "exports/tjs/model_bnb4": { ...tiny, exporter: OPTIMUM, precision: "int4", tokenizer: false },
  "exports/tjs/model_q4_qdq": {
    ...tiny,
    exporter: "optimum (TorchScript), opset 21",
    precision: "int4",
    tokenizer: false,
  },
  "exports/tjs/model_q4": { ...bare, exporter: OPTIMUM, precision: "int4" },
  "exports/tjs/model_quantized": {
    ...bare,
    exporter: QUANTISER,
    precision: "int8 dynamic",
  },
  ...desk("optimum", OPTIMUM, "fp32", [
    "base",
    "mirror",
    "support",
    "support-v2",
    "legal",
    "finance",
    "hr",
    "sales",
    "research",
  ]),
  ...desk("genai", GENAI, "fp32", [
    "base",
    "support",
    "support-v2",
    "legal",
    "finance",
    "finance-lora",
    "hr",
    "sales",
    "research",
  ]),
  ...desk("genai-int4", GENAI, "int4", ["base", "support"]),
};

/**
 * How far a logit may be from Python's. fp32: another order of summation. int4 with accuracy level 4 rounds every
 * activation to 8 bits, and a difference in the last bit moves such a rounding by a whole step; the largest seen is 0.054
 * on logits up to 14. fp16: the file rounds every activation to 11 bits, the chain none; the largest seen is 0.0052. int8
 * dynamic and static: the same integers by the same operators.
 */
const TOLERANCE: Record<string, number> = {
  fp32: 1e-4,
  int4: 0.2,
  fp16: 2e-2,
  "int8 dynamic": 1e-3,
  "fp32+int8 static": 1e-3,
};

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures(fixtureModels());
}, 120_000);
afterAll(async () => await split.remove());

/** Kept whole, with what `split` says about it. */
const WHOLE: Record<string, string> = {
  "exports/dyn/granitemoe-18": "TopK of the smallest",
  // Local layers' caches go round: they have their size from the start.
  "exports/genai_v0.18.0/gemma3-cpu-kv-int8": "a quantised key-value cache",
  // Its convolutions keep states that do not grow.
  "exports/genai_v0.18.0/lfm2-cpu-fp32": "a state that is no cache of keys and values",
  "exports/genai_v0.18.0/phi3-long-cpu-fp32": "up to there it is cut with --context 16",
};

it("every fixture is expected to be cut or kept whole", () => {
  expect(fixtureModels()).toEqual([...Object.keys(CUT), ...Object.keys(WHOLE)].toSorted());
  expect(Object.keys(WHOLE)).toEqual(KEPT_WHOLE);
});

describe.each(Object.entries(WHOLE))("%s", (path, reason) => {
  it("is one opaque block, and split says why", () => {
    const { document } = split.models.get(path)!;
    expect(document.chain.map(({ kind }) => kind)).toEqual(["opaque"]);
    expect(document.warnings.join()).toContain(reason);
  });

  it("says what Python's ONNX Runtime says", async () => await expectGolden(path));
});

it.each([
  ["exports/optimum/qwen3-moe", "4 experts, of which each token takes 2"],
  ["exports/genai_v0.18.0/gpt-oss-cpu-fp32", "attention sinks"],
])("split says of %s: %s", (path, finding) => {
  expect(split.models.get(path)!.document.recognised).toContain(finding);
});

it("a model that changes beyond a length is cut up to that length", async () => {
  const path = "exports/genai_v0.18.0/phi3-long-cpu-fp32";
  const folder = join(FIXTURES, path);
  const { document } = await addModel(split.repository, folder, { name: "phi3-short", context: 16 });
  expect(document).toMatchObject({ opaque: false, contextLength: 16, layers: 2 });
  const tokens = Array.from({ length: 16 }, (_, i) => (i * 29 + 5) % 320);
  const cut = await openForward(split.repository, "phi3-short", { threads: 1 });
  const whole = await openForward(split.repository, path, { threads: 1 });
  const [a, b] = [await cut.logits(tokens), await whole.logits(tokens)];
  a.forEach((value, i) => expect(Math.abs(value - b[i]!)).toBeLessThan(1e-4));
  await Promise.all([cut.close(), whole.close()]);
  const longer = addModel(split.repository, folder, { name: "longer", context: 1000 });
  await expect(longer).rejects.toMatchObject({ code: "usage" });
});

it("where the rows of a call share a scale, the last logits are those of the whole prompt, asked alone or with all", async () => {
  const path = "exports/tjs/model_quantized";
  const { executor, models } = await loadModels(split.repository, [path], engineConfig({ threads: 1 }));
  const tokens = goldenOf(path).prompt;
  const ask = async (sequence: number, logits: "all" | "last"): Promise<Float32Array> => {
    executor.open(sequence, { model: models[0]!.key, maxTokens: tokens.length });
    const [rows] = await executor.execute([{ sequence, tokens, start: 0, logits, stepwise: false }]);
    return rows!.slice();
  };
  const [all, last] = [await ask(1, "all"), await ask(2, "last")];
  expect(last).toEqual(all.slice(-models[0]!.vocabSize));
  await executor.close();
});

describe.each(Object.entries(CUT))("%s", (path, expected) => {
  it("is cut into embedding, attention and MLP of each layer, and head", () => {
    const { document } = split.models.get(path)!;
    const { parallel = false, tolerance: _tolerance, ...fields } = expected;
    const { exporter, family, precision, layers, contextLength, opaque } = document;
    expect({ exporter, family, precision, layers, contextLength, tokenizer: hasTokenizer(path) }).toEqual(fields);
    expect(opaque).toBe(false);
    expect(document.chain.map(({ kind, layer }) => (layer === null ? kind : `${kind} ${layer}`))).toEqual([
      "embedding",
      ...Array.from({ length: layers }, (_, layer) => [
        `attention ${layer}`,
        ...(parallel ? [] : [`mlp ${layer}`]),
      ]).flat(),
      "head",
    ]);
    expect(document.warnings).toEqual(
      expected.tokenizer ? [] : ["no tokenizer.json: this model takes and gives token ids only"],
    );
    expect(document.recognised[0]).toMatch(
      new RegExp(`^${layers} attention cores: \\d query heads over \\d key-value heads of \\d+$`),
    );
  });

  it("says what Python's ONNX Runtime says", async () => await expectGolden(path));
});

async function expectGolden(path: string): Promise<void> {
  const golden = goldenOf(path);
  const { document } = split.models.get(path)!;
  const forward = await openForward(split.repository, path, { threads: 1 });
  try {
    const logits = (await forward.logits(golden.prompt)).slice(-document.vocabSize);
    const tolerance = CUT[path]?.tolerance ?? TOLERANCE[document.opaque ? "fp32" : document.precision]!;
    for (const [token, value] of golden.first_logits_top16) {
      expect(Math.abs(logits[token]! - value), `logit of token ${token}`).toBeLessThan(tolerance);
    }
    expect(Math.abs(Math.hypot(...logits) - golden.first_logits_norm)).toBeLessThan(tolerance);
    expect(await forward.greedy(golden.prompt, golden.greedy.length)).toEqual(golden.greedy);
  } finally {
    await forward.close();
  }
}

function hasTokenizer(path: string): boolean {
  return split.models.get(path)!.document.files.some(({ name }) => name === "tokenizer.json");
}

function genai18(models: Record<string, Partial<Expected>>): Record<string, Expected> {
  return Object.fromEntries(
    Object.entries(models).map(([name, fields]) => [
      `exports/genai_v0.18.0/${name}`,
      { ...tiny, exporter: GENAI_18, ...fields },
    ]),
  );
}

function desk(folder: string, exporter: string, precision: string, names: string[]): Record<string, Expected> {
  const common = { family: "llama", layers: 6, contextLength: 512, tokenizer: true };
  return Object.fromEntries(names.map((name) => [`desk/${folder}/${name}`, { ...common, exporter, precision }]));
}
