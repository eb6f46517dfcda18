import { keyValueBytesPerToken, type BlockChain, type Chain, type OpaqueChain } from "../chain/chain.ts";
import { planChains } from "../chain/plan.ts";
import { refineChains } from "../chain/refine-chains.ts";
import { stateKey } from "../chain/state-key.ts";
import { resolveChain, type BlockSource } from "../chain/resolve-chain.ts";
import { BlockllmError } from "../support/errors.ts";
import type { EngineConfig } from "./engine-config.ts";
import { ChainExecutor } from "./execute/chain-executor.ts";
import type { Executor } from "./execute/executor.ts";
import { opaqueBytesPerToken, OpaqueExecutor } from "./execute/opaque-executor.ts";
import { RoutedExecutor } from "./execute/routed-executor.ts";
import { PAGE_TOKENS } from "./kv/page-ledger.ts";
import type { ScheduledModel } from "./sequence.ts";
import { verifyBlobs } from "./verify-blobs.ts";

export interface LoadedModels {
  executor: Executor;
  models: ScheduledModel[];
  /** Of the plan and of opaque models, every blob once. */
  weights: { bytes: number; segments: number };
}

/** Resolves, verifies, plans and loads models. Errors: as resolveChain, verifyBlobs and ChainExecutor.load; memory_exceeded. */
export async function loadModels(
  source: BlockSource,
  names: readonly string[],
  config: EngineConfig,
): Promise<LoadedModels> {
  const chains = await Promise.all(names.map(async (name) => resolveChain(source, name)));
  const blockChains = chains.filter((chain): chain is BlockChain => chain.kind === "blocks");
  const opaqueChains = chains.filter((chain): chain is OpaqueChain => chain.kind === "opaque");
  await verifyBlobs(source, chains);
  const plan = planChains((await refineChains(blockChains, source)).chains);

  const executors = new Map<string, Executor>();
  const shared = await ChainExecutor.load(plan, source, config);
  for (const chain of blockChains) executors.set(chain.name, shared);
  for (const chain of opaqueChains) executors.set(chain.name, await OpaqueExecutor.load(chain, source, config.threads));
  const executor = opaqueChains.length === 0 ? shared : new RoutedExecutor(executors);
  const models = chains.map((chain) => ({
    ...scheduledModel(chain, config),
    speculates: chain.kind === "blocks" && shared.sharesRuns(chain.name),
    stateKey: chain.kind === "blocks" ? stateKey(chain) : null,
  }));
  const opaqueBytes = opaqueChains.reduce(
    (sum, { part }) => sum + part.graphBytes + part.tensors.reduce((all, { bytes }) => all + bytes, 0),
    0,
  );
  const weights = { bytes: plan.bytes + opaqueBytes, segments: plan.segments.length + opaqueChains.length };
  return { executor, models, weights };
}

function scheduledModel(chain: Chain, config: EngineConfig): Omit<ScheduledModel, "speculates" | "stateKey"> {
  const { name, document } = chain;
  const bytesPerToken = chain.kind === "blocks" ? keyValueBytesPerToken(chain) : opaqueBytesPerToken(chain);
  const leadTokens = chain.kind === "blocks" && chain.cores.some(({ sinks }) => sinks) ? 1 : 0;
  const budgetPages = bytesPerToken === 0 ? Infinity : Math.floor(config.kvMemoryBytes / (bytesPerToken * PAGE_TOKENS));
  const contextLength = Math.min(
    document.contextLength ?? config.defaultContextLength,
    budgetPages * PAGE_TOKENS - leadTokens,
  );
  if (contextLength < 2) {
    throw new BlockllmError(
      "memory_exceeded",
      `One page of ${name} takes ${bytesPerToken * PAGE_TOKENS} bytes of KV memory, the limit is ${config.kvMemoryBytes}`,
      {
        hint: "start with a higher --kv-memory",
      },
    );
  }
  // One activation scale per call (DynamicQuantizeLinear): only a whole prompt in one call gives the file's numbers.
  const wholePrompt = chain.kind === "opaque" || document.precision.includes("dynamic");
  const prefillChunk = wholePrompt ? contextLength : config.prefillChunk;
  const { vocabSize, endTokens } = document;
  return { name, contextLength, vocabSize, endTokens, document, bytesPerToken, leadTokens, prefillChunk };
}
