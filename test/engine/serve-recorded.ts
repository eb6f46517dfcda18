import type { BlockSource } from "../../src/chain/resolve-chain.ts";
import { engineConfig, type EngineConfig } from "../../src/engine/engine-config.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { BatchItem, Executor } from "../../src/engine/execute/executor.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { EngineRequest } from "../../src/engine/request.ts";
import type { EngineStats } from "../../src/engine/stats.ts";

/** Request → every row of logits that its tokens were drawn from, in order. */
export type SampledRows = Map<number, Float32Array[]>;

export interface RecordingEngine {
  run(
    requests: [number, EngineRequest][],
    more?: Partial<EngineConfig>,
  ): Promise<{ rows: SampledRows; stats: EngineStats }>;
  close(): Promise<void>;
}

/** Serves models in this thread and keeps what each request was sampled from. The loaded models stay for all runs. */
export async function recordingEngine(
  source: BlockSource,
  names: string[],
  knobs: Partial<EngineConfig> = {},
): Promise<RecordingEngine> {
  const loaded = await loadModels(source, names, engineConfig(knobs));
  const run: RecordingEngine["run"] = async (requests, more = {}) => {
    const config = engineConfig({ ...knobs, ...more });
    const rows: SampledRows = new Map(requests.map(([id]) => [id, []]));
    const models = loaded.models.map((model) => {
      const pages = Math.floor(config.kvMemoryBytes / (model.bytesPerToken * 16));
      return { ...model, contextLength: Math.min(model.contextLength, pages * 16) };
    });
    const executor = recording(loaded.executor, rows);
    const engine = new Engine({ executor, models, config, report: () => {} });
    for (const [id, request] of requests) {
      engine.submit(id, request);
      if (id % 2 === 0) await engine.step();
    }
    while (!engine.isIdle) {
      await engine.step();
      engine.checkIntegrity();
    }
    return { rows, stats: engine.stats() };
  };
  return { run, close: async () => loaded.executor.close() };
}

function recording(executor: Executor, rows: SampledRows): Executor {
  return {
    open: (sequence, options) => executor.open(sequence, options),
    release: (sequence) => executor.release(sequence),
    stateBytes: () => executor.stateBytes(),
    close: async () => executor.close(),
    execute: async (items: BatchItem[]) => {
      const logits = await executor.execute(items);
      items.forEach((item, index) => item.logits === "last" && rows.get(item.sequence)!.push(logits[index]!.slice()));
      return logits;
    },
  };
}
