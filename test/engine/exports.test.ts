import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { openForward } from "../../src/engine/forward.ts";
import { fixtureModels, goldenOf, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

interface Expected {
  exporter: string;
  family: string;
  precision: string;
  layers: number;
  contextLength: number | null;
  tokenizer: boolean;
}

const OPTIMUM = "optimum (TorchScript), opset 18";
const GENAI = "onnxruntime-genai, opset 21";
const tiny = { layers: 3, precision: "fp32", family: "llama", contextLength: 256, tokenizer: true };
/** Exported without the files that would say the family, the context or the tokenizer. */
const bare = { ...tiny, family: "unknown", contextLength: null, tokenizer: false };

/** What each exporter's file turns out to be. A new fixture needs a line here. */
const CUT: Record<string, Expected> = {
  "exports/dyn/llama-18-sdpa": { ...bare, exporter: "torch.onnx dynamo, opset 18" },
  "exports/dyn/llama-23-sdpa": { ...bare, exporter: "torch.onnx dynamo, opset 23" },
  "exports/genai/llama-cpu-fp32": { ...tiny, exporter: GENAI },
  "exports/genai/llama-cpu-int4": { ...tiny, exporter: GENAI, precision: "int4" },
  "exports/genai/llama-cuda-fp16": { ...tiny, exporter: GENAI, precision: "fp16" },
  "exports/genai/llama_tied-cpu-int4-shared": { ...tiny, exporter: GENAI, precision: "int4" },
  "exports/genai/qwen2-cpu-fp32": { ...tiny, exporter: GENAI, family: "qwen2" },
  "exports/genai4/llama-cpu-fp32-lora": { ...tiny, exporter: GENAI },
  "exports/genai_v0.9.2/llama-cpu-fp32": { ...tiny, exporter: GENAI },
  "exports/mobius/llama-default-f32": { ...bare, exporter: "mobius, opset 24", contextLength: 256 },
  "exports/olive/llama-lora-inputs": { ...tiny, exporter: GENAI, tokenizer: false },
  "exports/optimum/gpt2": { ...tiny, exporter: OPTIMUM, family: "gpt2" },
  "exports/optimum/llama": { ...tiny, exporter: OPTIMUM },
  "exports/optimum/phi3": { ...tiny, exporter: OPTIMUM, family: "phi3" },
  "exports/optimum/qwen3": { ...tiny, exporter: OPTIMUM, family: "qwen3" },
  "exports/tjs/model_q4": { ...bare, exporter: OPTIMUM, precision: "int4" },
  "exports/tjs/model_quantized": {
    ...bare,
    exporter: "transformers.js (onnx.quantize), opset 18",
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
 * on logits up to 14. fp16: the file rounds every activation to 11 bits, the chain none. int8 dynamic: the file takes one
 * activation scale for all tokens of a call, the chain one per token, so that a token does not depend on its neighbours.
 */
const TOLERANCE: Record<string, number> = { fp32: 1e-4, int4: 0.2, fp16: 2e-3, "int8 dynamic": 0.02 };

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures(fixtureModels());
}, 120_000);
afterAll(async () => await split.remove());

it("every fixture is expected to be cut: none is kept whole", () => {
  expect(fixtureModels()).toEqual(Object.keys(CUT).toSorted());
});

describe.each(Object.entries(CUT))("%s", (path, expected) => {
  it("is cut into embedding, attention and MLP of each layer, and head", () => {
    const { document } = split.models.get(path)!;
    const { exporter, family, precision, layers, contextLength, opaque } = document;
    expect({ exporter, family, precision, layers, contextLength, tokenizer: hasTokenizer(path) }).toEqual(expected);
    expect(opaque).toBe(false);
    expect(document.chain.map(({ kind, layer }) => (layer === null ? kind : `${kind} ${layer}`))).toEqual([
      "embedding",
      ...Array.from({ length: layers }, (_, layer) => [`attention ${layer}`, `mlp ${layer}`]).flat(),
      "head",
    ]);
    expect(document.warnings).toEqual(
      expected.tokenizer ? [] : ["no tokenizer.json: this model takes and gives token ids only"],
    );
    expect(document.recognised[0]).toMatch(
      new RegExp(`^${layers} attention cores: 4 query heads over \\d key-value heads of \\d+$`),
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
    const tolerance = TOLERANCE[document.precision]!;
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

function desk(folder: string, exporter: string, precision: string, names: string[]): Record<string, Expected> {
  const common = { family: "llama", layers: 6, contextLength: 512, tokenizer: true };
  return Object.fromEntries(names.map((name) => [`desk/${folder}/${name}`, { ...common, exporter, precision }]));
}
