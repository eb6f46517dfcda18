import { describeOpaque } from "../../blocks/opaque-model.ts";
import type { Executor } from "../../engine/execute/executor.ts";
import { opaqueBytesPerToken } from "../../engine/execute/opaque-executor.ts";
import { RoutedExecutor } from "../../engine/execute/routed-executor.ts";
import type { LoadedModels } from "../../engine/load-models.ts";
import type { ScheduledModel } from "../../engine/sequence.ts";
import { readModel } from "../../onnx/read-model.ts";
import { openRepository } from "../../store/open-repository.ts";
import { locateModel } from "../../store/source-folder.ts";
import type { WholeModelsStart } from "./start-whole-models.ts";
import { WholeModelExecutor } from "./whole-model-executor.ts";

/** One session per model. Errors: as locateModel, readModel and describeOpaque; model_unsupported. */
export async function loadWholeModels({ repository, models, config }: WholeModelsStart): Promise<LoadedModels> {
  const known = await openRepository(repository);
  const executors = new Map<string, Executor>();
  const scheduled: ScheduledModel[] = [];
  for (const { name, folder } of models) {
    const { document } = await known.readModel(name);
    const { graph, facts } = locateModel(folder);
    const spec = describeOpaque(await readModel(graph), facts);
    const { vocabSize, endTokens } = document;
    executors.set(name, await WholeModelExecutor.load({ graph, spec, vocabSize, threads: config.threads }));
    const contextLength = document.contextLength ?? config.defaultContextLength;
    scheduled.push({
      name,
      key: name,
      contextLength,
      contextBound: "model",
      vocabSize,
      endTokens,
      document,
      bytesPerToken: opaqueBytesPerToken({ spec }),
      leadTokens: 0,
      // A prompt in one call: in chunks, every call would copy all keys and values before it.
      prefillChunk: contextLength,
      speculates: false,
      stretches: [],
    });
  }
  return { executor: new RoutedExecutor(executors), models: scheduled };
}
