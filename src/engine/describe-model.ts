import { keyValueBytesPerToken, scalesByCall, type Chain } from "../chain/chain.ts";
import { BlockllmError } from "../support/errors.ts";
import type { EngineConfig } from "./engine-config.ts";
import { opaqueBytesPerToken, opaqueFixedBytes } from "./execute/opaque-executor.ts";
import { deviceBytesPerToken, largestWithin } from "./kv/capacity.ts";
import { PAGE_TOKENS } from "./kv/page-ledger.ts";
import type { ChainFacts } from "./runners/chain-runner.ts";
import type { ScheduledModel } from "./sequence.ts";

/** A model as the engine schedules it. Error: memory_exceeded where it does not fit by itself, with what is missing. */
export function describeModel(
  chain: Chain,
  { config, weightBytes, ...facts }: ChainFacts & { config: EngineConfig; weightBytes: number },
): ScheduledModel {
  const { name, key, document } = chain;
  const bytesPerToken = bytesPerTokenOf(chain, facts);
  const leadTokens = leadTokensOf(chain, bytesPerToken);
  const pageBytes = bytesPerToken * PAGE_TOKENS;
  const kvBytes = Math.min(config.kvMemoryBytes, config.memoryBytes - weightBytes);
  const rows = pageBytes === 0 && kvBytes >= 0 ? Infinity : Math.floor(kvBytes / pageBytes) * PAGE_TOKENS - leadTokens;
  const holds = facts.byCapacity && rows < Infinity ? largestWithin(rows) : rows;
  const ownLength = document.contextLength ?? config.defaultContextLength;
  const contextLength = Math.min(ownLength, holds);
  if (contextLength < 2) throw tooSmall(name, { config, weightBytes, pageBytes });
  const wholePrompt = chain.kind === "opaque" || scalesByCall(document);
  return {
    name,
    key,
    contextLength,
    contextBound: contextLength < ownLength ? "memory" : "model",
    vocabSize: document.vocabSize,
    endTokens: document.endTokens,
    document,
    bytesPerToken,
    leadTokens,
    prefillChunk: wholePrompt ? contextLength : config.prefillChunk,
    ...facts,
  };
}

/**
 * All of them, each described by itself. Error: memory_exceeded where some do not fit; it says by how much the first, how
 * many others, and which do.
 */
export function describeModels(chains: readonly Chain[], describe: (chain: Chain) => ScheduledModel): ScheduledModel[] {
  const models: ScheduledModel[] = [];
  const refused: BlockllmError[] = [];
  for (const chain of chains) {
    try {
      models.push(describe(chain));
    } catch (error) {
      if (!(error instanceof BlockllmError) || error.code !== "memory_exceeded") throw error;
      refused.push(error);
    }
  }
  const [first, ...others] = refused;
  if (!first) return models;
  const more = others.length === 0 ? "" : `; ${others.length} more of ${chains.length} models do not fit either`;
  const fit = models.length === 0 ? "" : `; these fit: --models ${models.map(({ name }) => name).join(",")}`;
  throw new BlockllmError("memory_exceeded", `${first.message}${more}`, { hint: `${first.hint}${fit}`, cause: first });
}

function bytesPerTokenOf(chain: Chain, { byCapacity }: ChainFacts): number {
  if (chain.kind === "opaque") return opaqueBytesPerToken(chain);
  return byCapacity ? deviceBytesPerToken(chain.cores) : keyValueBytesPerToken(chain);
}

/** Tokens' worth of memory that a sequence takes besides its tokens: a sink, or a state that does not grow. */
function leadTokensOf(chain: Chain, bytesPerToken: number): number {
  if (chain.kind === "opaque") return Math.ceil(opaqueFixedBytes(chain) / bytesPerToken);
  return chain.cores.some(({ sinks }) => sinks) ? 1 : 0;
}

function tooSmall(
  name: string,
  {
    config: { memoryBytes, kvMemoryBytes },
    weightBytes,
    pageBytes,
  }: { config: EngineConfig; weightBytes: number; pageBytes: number },
): BlockllmError {
  if (kvMemoryBytes < pageBytes) {
    const message = `one page of ${name} takes ${pageBytes} bytes of KV memory, the limit is ${kvMemoryBytes}`;
    return new BlockllmError("memory_exceeded", message, { hint: "start with a higher --memory or --kv-memory" });
  }
  const needed = weightBytes + pageBytes;
  return new BlockllmError(
    "memory_exceeded",
    `${name} needs ${needed} bytes at least, ${weightBytes} of them for its weights; the limit is ${memoryBytes}, ${needed - memoryBytes} too little`,
    { hint: `start with --memory ${Math.ceil(needed / 1e6)}MB or more, or leave the model out with --models` },
  );
}
