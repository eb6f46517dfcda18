import type { EngineConfig } from "../../engine/engine-config.ts";
import { engineConfig } from "../../engine/engine-config.ts";
import { type EngineClient, startEngineThread } from "../../engine/engine-client.ts";
import { scriptBeside } from "../../support/script-beside.ts";
import type { Side } from "../side.ts";

/** What whole-models-worker.ts is started with. */
export interface WholeModelsStart {
  repository: string;
  models: { name: string; folder: string }[];
  config: EngineConfig;
}

/**
 * The engine with whole models in place of blocks: the same thread, queue, scheduler and sampler, one ONNX Runtime
 * session per model on the model's own file. Errors: what loading a model throws.
 */
export async function startWholeModels({
  repository,
  models,
  engine,
}: Side & { kind: "per-model" }): Promise<EngineClient> {
  const start: WholeModelsStart = { repository, models, config: engineConfig(engine) };
  return await startEngineThread(scriptBeside(import.meta.url, "whole-models-worker"), start);
}
