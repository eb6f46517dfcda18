import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { splitFixtures, type SplitFixtures } from "./split-fixtures.ts";

const LLAMA_FP32 = [
  "exports/dyn/llama-18-sdpa",
  "exports/dyn/llama-23-sdpa",
  "exports/genai/llama-cpu-fp32",
  "exports/genai_v0.9.2/llama-cpu-fp32",
  "exports/mobius/llama-default-f32",
  "exports/optimum/llama",
];
const LLAMA_INT4 = ["exports/genai/llama-cpu-int4", "exports/tjs/model_q4"];
const LLAMA_LORA = "exports/genai4/llama-cpu-fp32-lora";
const LORA_FILE = "exports/olive/llama-lora-inputs";
const DEPARTMENTS = ["base", "support", "support-v2", "legal", "finance", "hr", "sales", "research"];
const optimum = (name: string) => `desk/optimum/${name}`;
const genai = (name: string) => `desk/genai/${name}`;

let split: SplitFixtures;
beforeAll(async () => {
  const desk = [
    ...DEPARTMENTS.flatMap((name) => [optimum(name), genai(name)]),
    optimum("mirror"),
    genai("finance-lora"),
  ];
  split = await splitFixtures([...LLAMA_FP32, ...LLAMA_INT4, LLAMA_LORA, LORA_FILE, ...desk]);
}, 120_000);
afterAll(async () => await split.remove());

describe("one set of weights through several exporters", () => {
  it.each(LLAMA_FP32.slice(1))("%s is the same 8 blocks as the first export", (path) => {
    expect(split.models.get(path)!.document.chain).toHaveLength(8);
    expect(split.differing(path, LLAMA_FP32[0]!)).toEqual([]);
  });

  it.each(DEPARTMENTS)("%s is the same 14 blocks from optimum and from onnxruntime-genai", (name) => {
    expect(split.models.get(genai(name))!.document.chain).toHaveLength(14);
    expect(split.differing(genai(name), optimum(name))).toEqual([]);
  });

  it("int4 of transformers.js and of onnxruntime-genai is the same tensors where both quantise alike", async () => {
    const [ours, theirs] = await Promise.all(LLAMA_INT4.map(split.tensors));
    const quantised = [...ours!.values()].filter(({ dtype }) => dtype === "uint8");
    expect(quantised.length).toBeGreaterThanOrEqual(3 * 7);
    expect(ours!.size).toBe(theirs!.size);
    expect([...ours!.keys()].toSorted()).toEqual([...theirs!.keys()].toSorted());
  });

  it.each([
    [LLAMA_LORA, LLAMA_FP32[0]!],
    [LORA_FILE, LLAMA_FP32[0]!],
    [genai("finance-lora"), genai("base")],
  ])("%s, whose adapter was left apart, is the blocks of %s and an adapter", (adapted, base) => {
    expect(split.differing(adapted, base)).toEqual([]);
    const { chain, recognised } = split.models.get(adapted)!.document;
    expect(chain.filter(({ adapter }) => adapter).map(({ kind }) => kind)).toContain("attention");
    expect(chain.every(({ adapter, bytes }) => adapter === undefined || adapter.bytes < bytes)).toBe(true);
    expect(recognised.join()).toMatch(/LoRA of rank \d+ on \d+ projections/);
    expect(split.models.get(base)!.document.chain.filter(({ adapter }) => adapter)).toEqual([]);
  });
});

describe("fine-tunes of one base share what training left alone", () => {
  it.each([
    ["mirror", "base", []],
    ["sales", "base", ["mlp 5", "head"]],
    ["hr", "base", ["attention 4", "mlp 4", "attention 5", "mlp 5"]],
    ["support-v2", "support", ["attention 5"]],
  ])("%s differs from %s in %j", (name, other, places) => {
    expect(split.differing(optimum(name), optimum(other))).toEqual(places);
  });

  it("a merged LoRA leaves the embedding and the head", () => {
    for (const name of ["support", "legal", "finance"]) {
      expect(split.differing(optimum(name), optimum("base"))).toEqual(
        Array.from({ length: 6 }, (_, layer) => [`attention ${layer}`, `mlp ${layer}`]).flat(),
      );
    }
  });

  it("training everything shares nothing", () => {
    expect(split.differing(optimum("research"), optimum("base"))).toHaveLength(14);
  });
});

describe("a block", () => {
  it("of a tied model stores the embedding table once", async () => {
    const [embedding] = await split.blocks(optimum("base"));
    const head = (await split.blocks(optimum("base"))).at(-1)!;
    const table = embedding!.parts[0]!.tensors[0]!;
    expect(head.parts[0]!.tensors.map(({ digest }) => digest)).toContain(table.digest);
  });

  it("never depends on the file's own names", async () => {
    const names = new Set(
      (await split.blocks(optimum("base"))).flatMap(({ parts }) =>
        parts.flatMap((part) => part.tensors.map(({ name }) => name)),
      ),
    );
    expect([...names].filter((name) => /model|layers|onnx|proj/.test(name))).toEqual([]);
  });
});
