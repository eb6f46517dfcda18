import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { likeliest } from "../../src/engine/execute/sampler.ts";
import { runtimeOptions } from "../../src/engine/execute/runtime-options.ts";
import { DeviceTensors } from "../../src/engine/execute/webgpu/device-tensors.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Shapes } from "../model-graph.ts";

export interface GpuCase {
  shapes: Shapes;
  /** Of the whole models, one each. */
  folders: string[];
  repository: string;
  models: string[];
  /** Sequences in all, spread over the models. */
  batch: number;
  context: number;
  steps: number;
}

export interface GpuResult {
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** What the first sequence got: equal on both sides. */
  tokens: number[];
}

/** All sequences of all models through the engine's executor on the WebGPU device. */
export async function runBlocks(given: GpuCase): Promise<GpuResult> {
  const config = engineConfig({ device: "webgpu" });
  const loaded = await loadModels(await openRepository(given.repository), given.models, config);
  const { executor } = loaded;
  const keys = sequencesOf(given).map(({ model }) => loaded.models[model]!.key);
  keys.forEach((model, sequence) => executor.open(sequence, { model, maxTokens: given.context + given.steps + 8 }));
  const prompts = keys.map((_, sequence) => promptOf(sequence, given));
  let last: number[] = [];
  await executor.execute(
    prompts.map((tokens, sequence) => ({ sequence, tokens, start: 0, logits: "last", stepwise: false })),
  );
  for (const sequence of keys.keys()) executor.truncate(sequence, 0);
  const began = performance.now();
  for (let start = 0; start < given.context; start += config.prefillChunk) {
    const items = prompts.map((prompt, sequence) => {
      const tokens = prompt.slice(start, start + config.prefillChunk);
      return { sequence, tokens, start, logits: "last" as const, stepwise: false };
    });
    last = (await executor.execute(items)).map(likeliest);
  }
  const prefilled = performance.now();
  const step = async (at: number): Promise<void> => {
    const items = last.map((token, sequence) => {
      return { sequence, tokens: [token], start: given.context + at, logits: "last" as const, stepwise: true };
    });
    last = (await executor.execute(items)).map(likeliest);
  };
  const result = await decode(given, { last: () => last[0]!, step, prefillMs: prefilled - began });
  await executor.close();
  return result;
}

interface WholeModel {
  session: InferenceSession;
  /** Of all its sequences together, by layer and half. */
  cache: Record<string, Tensor>;
  prompts: number[][];
  length: number;
  last: number[];
}

/** A session per model on the same device, keys and values in place there, one model after the other. */
export async function runWhole(given: GpuCase): Promise<GpuResult> {
  const { layers, keyValueHeads, headSize, vocabulary } = given.shapes;
  const tensors = await DeviceTensors.open();
  const served: WholeModel[] = [];
  for (const [model, folder] of given.folders.entries()) {
    const own = sequencesOf(given).filter((one) => one.model === model);
    if (own.length === 0) continue;
    const options = { ...runtimeOptions(1), executionProviders: ["webgpu"] };
    const session = await InferenceSession.create(join(folder, "model.onnx"), options);
    const cache: Record<string, Tensor> = {};
    for (let layer = 0; layer < layers; layer++)
      for (const half of ["key", "value"])
        cache[`${layer}.${half}`] = await tensors.zeros([own.length, keyValueHeads, capacityOf(given), headSize]);
    served.push({
      session,
      cache,
      prompts: own.map(({ sequence }) => promptOf(sequence, given)),
      length: 0,
      last: [0],
    });
  }
  const advance = async (one: WholeModel, rows: number[][]): Promise<void> => {
    const [batch, width] = [rows.length, rows[0]!.length];
    one.length += width;
    const named = (prefix: string): Record<string, Tensor> =>
      Object.fromEntries(Object.entries(one.cache).map(([name, tensor]) => [`${prefix}.${name}`, tensor]));
    const mask = new BigInt64Array(batch * one.length).fill(1n);
    const outputs = await one.session.run(
      {
        input_ids: new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [batch, width]),
        attention_mask: new Tensor("int64", mask, [batch, one.length]),
        ...named("past_key_values"),
      },
      { ...named("present"), logits: null },
    );
    const logits = outputs["logits"]!.data as Float32Array;
    one.last = rows.map((_, row) => {
      const at = ((row + 1) * width - 1) * vocabulary;
      return likeliest(logits.subarray(at, at + vocabulary));
    });
  };
  // Once to compile what the prompts need, as the engine has when its models are loaded.
  for (const one of served) {
    await advance(one, one.prompts);
    one.length = 0;
  }
  const began = performance.now();
  for (const one of served) await advance(one, one.prompts);
  const prefillMs = performance.now() - began;
  const step = async (): Promise<void> => {
    for (const one of served)
      await advance(
        one,
        one.last.map((token) => [token]),
      );
  };
  const result = await decode(given, { last: () => served[0]!.last[0]!, step, prefillMs });
  for (const { session, cache } of served) {
    for (const tensor of Object.values(cache)) tensor.dispose();
    await session.release();
  }
  await tensors.close();
  return result;
}

const WARM_UP = 2;

async function decode(
  { batch, context, steps }: GpuCase,
  run: { last: () => number; step: (at: number) => Promise<void>; prefillMs: number },
): Promise<GpuResult> {
  const tokens = [run.last()];
  for (let at = 0; at < WARM_UP; at++) {
    await run.step(at);
    tokens.push(run.last());
  }
  const began = performance.now();
  for (let at = 0; at < steps; at++) {
    await run.step(WARM_UP + at);
    tokens.push(run.last());
  }
  const seconds = (performance.now() - began) / 1000;
  return {
    prefillTokensPerSecond: (batch * context) / (run.prefillMs / 1000),
    decodeTokensPerSecond: (batch * steps) / seconds,
    tokens,
  };
}

function sequencesOf({ batch, models }: GpuCase): { sequence: number; model: number }[] {
  return Array.from({ length: batch }, (_, sequence) => ({ sequence, model: sequence % models.length }));
}

function promptOf(sequence: number, { context, shapes }: GpuCase): number[] {
  return Array.from({ length: context }, (_, at) => (sequence * 7919 + at * 104_729 + 11) % shapes.vocabulary);
}

function capacityOf({ context, steps }: GpuCase): number {
  return context + steps + 2 * WARM_UP;
}
