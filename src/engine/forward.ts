import type { BlockSource } from "../chain/resolve-chain.ts";
import { engineConfig, type EngineConfig } from "./engine-config.ts";
import type { Executor } from "./execute/executor.ts";
import { likeliest } from "./execute/sampler.ts";
import { loadModels } from "./load-models.ts";
import type { ScheduledModel } from "./sequence.ts";

/** One model run in this thread, without a scheduler: what verifying needs. */
export interface Forward {
  model: ScheduledModel;
  /** float32 logits [tokens, vocabulary] of every position, fed as the engine feeds a prompt. */
  logits(tokens: readonly number[]): Promise<Float32Array>;
  /** The `count` likeliest tokens after the prompt, one by one; end tokens do not end it. */
  greedy(tokens: readonly number[], count: number): Promise<number[]>;
  close(): Promise<void>;
}

const SEQUENCE = 1;

/** Errors: model_not_found, and what loading a model throws. */
export async function openForward(
  source: BlockSource,
  name: string,
  options: Partial<Pick<EngineConfig, "threads" | "device" | "deviceStrict">> = {},
): Promise<Forward> {
  const config = engineConfig(options);
  const { executor, models } = await loadModels(source, [name], config);
  const model = models[0]!;
  return {
    model,
    logits: async (tokens) => {
      begin(executor, model, tokens.length);
      return joinRows(await prefill(executor, model, { tokens, logits: "all" }));
    },
    greedy: async (tokens, count) => {
      begin(executor, model, tokens.length + count);
      return await continueGreedily(executor, model, { tokens, count });
    },
    close: async () => executor.close(),
  };
}

function begin(executor: Executor, { key }: ScheduledModel, maxTokens: number): void {
  executor.release(SEQUENCE);
  executor.open(SEQUENCE, { model: key, maxTokens });
}

async function prefill(
  executor: Executor,
  { prefillChunk }: ScheduledModel,
  { tokens, logits }: { tokens: readonly number[]; logits: "all" | "last" },
): Promise<Float32Array[]> {
  const chunks: Float32Array[] = [];
  for (let start = 0; start < tokens.length; start += prefillChunk) {
    const chunk = tokens.slice(start, start + prefillChunk);
    const [rows] = await executor.execute([{ sequence: SEQUENCE, tokens: chunk, start, logits, stepwise: false }]);
    chunks.push(rows!);
  }
  return chunks;
}

async function continueGreedily(
  executor: Executor,
  model: ScheduledModel,
  { tokens, count }: { tokens: readonly number[]; count: number },
): Promise<number[]> {
  const generated: number[] = [];
  let logits = (await prefill(executor, model, { tokens, logits: "last" })).at(-1)!;
  while (generated.length < count) {
    const token = likeliest(logits);
    generated.push(token);
    if (generated.length === count) break;
    const start = tokens.length + generated.length - 1;
    logits = (
      await executor.execute([{ sequence: SEQUENCE, tokens: [token], start, logits: "last", stepwise: true }])
    )[0]!;
  }
  return generated;
}

function joinRows(chunks: Float32Array[]): Float32Array {
  const rows = new Float32Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    rows.set(chunk, at);
    at += chunk.length;
  }
  return rows;
}
