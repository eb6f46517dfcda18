import { InferenceSession } from "onnxruntime-node";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { describeOpaque } from "../../src/blocks/opaque-model.ts";
import { runtimeOptions } from "../../src/engine/execute/runtime-options.ts";
import { likeliest } from "../../src/engine/execute/sampler.ts";
import { openWholeModel } from "../../src/engine/whole-model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { locateModel } from "../../src/store/source-folder.ts";
import { choosePadding } from "../../src/traffic/per-model/choose-padding.ts";
import { WholeModelExecutor } from "../../src/traffic/per-model/whole-model-executor.ts";

const FIXTURES = resolve(import.meta.dirname, "../../fixtures");
const PROMPTS = [
  [5, 9, 11, 4],
  [7, 30],
  [12, 40, 41, 42, 43, 44, 45],
];

async function open(name: string, vocabSize: number) {
  const path = join(FIXTURES, name);
  const { graph, facts } = locateModel(path);
  return { path, graph, spec: describeOpaque(await readModel(graph), facts), vocabSize, threads: 1 };
}

describe("how a graph takes sequences of different lengths", () => {
  test.each([
    ["exports/genai/llama-cpu-fp32", 320, "right"],
    ["exports/genai/llama-cpu-int4", 320, "right"],
    ["desk/optimum/support", 512, "left"],
    ["exports/optimum/qwen3", 320, "left"],
  ])("%s is found out", async (name, vocabSize, padding) => {
    const { graph, spec } = await open(name, vocabSize);
    const session = await InferenceSession.create(graph, runtimeOptions(1));
    expect(await choosePadding({ session, spec, vocabSize })).toBe(padding);
    await session.release();
  });
});

describe("a whole model with several sequences", () => {
  test.each([
    ["exports/genai/llama-cpu-fp32", 320],
    ["desk/optimum/support", 512],
  ])("%s gives each the tokens it has alone, whoever joins and leaves", async (name, vocabSize) => {
    const file = await open(name, vocabSize);
    const whole = await openWholeModel(file.path, { vocabSize, threads: 1, stepwise: false });
    const expected: number[][] = [];
    for (const prompt of PROMPTS) expected.push(await whole.greedy(prompt, 8));
    await whole.close();

    const executor = await WholeModelExecutor.load(file);
    const tokens = PROMPTS.map((prompt) => [...prompt]);
    const run = async (sequences: number[]): Promise<void> => {
      const items = sequences.map((sequence) => {
        const start = fed[sequence]!;
        return { sequence, tokens: tokens[sequence]!.slice(start), start, logits: "last", stepwise: false } as const;
      });
      const rows = await executor.execute(items);
      sequences.forEach((sequence, row) => {
        fed[sequence] = tokens[sequence]!.length;
        tokens[sequence]!.push(likeliest(rows[row]!));
      });
    };
    const fed = PROMPTS.map(() => 0);
    PROMPTS.forEach((_, sequence) => executor.open(sequence));
    // One begins, a second joins, all three go on, one pauses, the order changes.
    for (const sequences of [[0], [0, 1], [0, 1], [2, 0, 1], [0, 1, 2], [0, 2], [2, 0], [0, 1, 2]])
      await run(sequences);
    for (const [sequence, prompt] of PROMPTS.entries()) {
      const answer = tokens[sequence]!.slice(prompt.length);
      expect(answer.length).toBeGreaterThanOrEqual(4);
      expect(answer).toEqual(expected[sequence]!.slice(0, answer.length));
    }
    expect(executor.stateBytes()).toBeGreaterThan(0);
    PROMPTS.forEach((_, sequence) => executor.release(sequence));
    expect(executor.stateBytes()).toBe(0);
    await executor.close();
  });
});
