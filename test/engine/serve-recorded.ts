import type { BlockSource } from "../../src/chain/resolve-chain.ts";
import { engineConfig, type EngineConfig } from "../../src/engine/engine-config.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { BatchItem, Executor, Share } from "../../src/engine/execute/executor.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { EngineEvent, EngineRequest } from "../../src/engine/request.ts";
import type { EngineStats } from "../../src/engine/stats.ts";

/** Request → every row of logits that its tokens were drawn from, in order; rows of refused drafts are not among them. */
export type SampledRows = Map<number, Float32Array[]>;

export interface RecordingEngine {
  run(
    requests: [number, EngineRequest][],
    more?: Partial<EngineConfig>,
  ): Promise<{ rows: SampledRows; tokens: Map<number, number[]>; stats: EngineStats }>;
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
    const tokens = new Map(requests.map(([id]) => [id, [] as number[]]));
    const report = (id: number, event: EngineEvent): void => {
      if (event.type === "token-delta") return void tokens.get(id)!.push(event.token);
      if (event.reason === "error") throw event.error;
      const drawn = event.completionTokens + (event.reason === "stop" ? 1 : 0);
      rows.set(id, rows.get(id)!.slice(event.promptTokens - 1, event.promptTokens - 1 + drawn));
    };
    const models = loaded.models.map((model) => {
      const pages = Math.floor(config.kvMemoryBytes / (model.bytesPerToken * 16));
      return { ...model, contextLength: Math.min(model.contextLength, pages * 16 - model.leadTokens) };
    });
    const executor = recording(loaded.executor, rows);
    const engine = new Engine({ executor, models, config, report });
    for (const [id, request] of requests) {
      engine.submit(id, request);
      if (id % 2 === 0) await engine.step();
    }
    while (!engine.isIdle) {
      await engine.step();
      engine.checkIntegrity();
    }
    return { rows, tokens, stats: engine.stats() };
  };
  return { run, close: async () => loaded.executor.close() };
}

function recording(executor: Executor, rows: SampledRows): Executor {
  return {
    needs: executor.needs,
    get laneBatches() {
      return executor.laneBatches ?? 0;
    },
    open: (sequence, options) => executor.open(sequence, options),
    readState: (sequence, range) => executor.readState(sequence, range),
    writeState: (sequence, range, state) => executor.writeState(sequence, range, state),
    truncate: (sequence, tokens) => executor.truncate(sequence, tokens),
    release: (sequence) => executor.release(sequence),
    stateBytes: () => executor.stateBytes(),
    close: async () => executor.close(),
    ...recordedRuns(executor, rows),
  };
}

/** What an executor runs batches with, whose rows are kept. */
export function recordedRuns(executor: Executor, rows: SampledRows): Required<Pick<Executor, "execute" | "shareOut">> {
  const recorded =
    (execute: Share["execute"]): Share["execute"] =>
    async (items) => {
      const logits = await execute(items);
      items.forEach((item, index) => keepRows(rows.get(item.sequence)!, item, logits[index]!));
      return logits;
    };
  const shareOut = executor.shareOut?.bind(executor);
  return {
    execute: recorded(executor.execute.bind(executor)),
    shareOut: (items) => {
      const out = shareOut?.(items) ?? null;
      return out && { ...out, shares: out.shares.map((share) => ({ ...share, execute: recorded(share.execute) })) };
    },
  };
}

/** By position: what a refused draft left is overwritten when its position is computed again. */
function keepRows(rows: Float32Array[], { start, tokens, logits }: BatchItem, given: Float32Array): void {
  if (logits === "none") return;
  const count = logits === "all" ? tokens.length : 1;
  const width = given.length / count;
  const first = start + tokens.length - count;
  for (let row = 0; row < count; row++) rows[first + row] = given.slice(row * width, (row + 1) * width);
}
