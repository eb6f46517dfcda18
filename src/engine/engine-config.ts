import { availableParallelism } from "node:os";
import { BlockllmError } from "../support/errors.ts";
import { defaultMemoryBytes } from "./memory/machine-memory.ts";

/** Every knob of the engine. */
export interface EngineConfig {
  /** Threads each session computes with. */
  threads: number;
  /**
   * In how many lanes a step's sequences may be shared out, each with its part of the threads, where that is faster
   * (execute/lanes); 1: none. Tokens are the same.
   */
  lanes: number;
  /** Budget for everything: weights, activations, keys and values. */
  memoryBytes: number;
  /** The most of it that cached keys and values of all sequences may take. */
  kvMemoryBytes: number;
  /** Token rows in one step, decodes and prefill chunks together. */
  maxBatchTokens: number;
  /**
   * Prompts are cut at multiples of this, counted from the sequence's start. Constant for the engine's life: a chunk
   * rounds as one call of the attention core, so the grid must not follow the load.
   */
  prefillChunk: number;
  /** Sequences that may hold KV memory at once. */
  maxSequences: number;
  /** Requests that may wait; one more is refused with queue_full. */
  maxQueue: number;
  /** For models whose files do not say. */
  defaultContextLength: number;
  /**
   * Whether sequences are guessed ahead from their own tokens: where it is measured to pay, or never. `always` is for
   * tests and measurements. Tokens are the same in all three.
   */
  speculate: "auto" | "off" | "always";
  /**
   * Whether a model that decodes alone may get a session of its own: about a third faster, for its weights a second time,
   * and only while the machine has three times that free. Tokens are the same.
   */
  solo: "auto" | "off";
  /**
   * Whether sequences share batches wherever their bits allow it, or only where that does not slow a sequence that is alone
   * (execute/row-sharing.ts). Bits may differ between the two, not within one.
   */
  shareBatches: "auto" | "always";
  /**
   * Whether keys and values of sequences that yield may wait on disk, in the folder for temporary files: where that is
   * measured to be sooner than computing them again, or never. `always` is for tests.
   */
  swap: "auto" | "off" | "always";
  /** Whether prompt chunks stay cached behind their sequences, for prompts of the same tenant that begin alike. */
  prefixCache: "on" | "off";
  /** Where chains run: cpu, webgpu, webgpu:fp16, or CUDA devices with commas between them ("cuda:0,cuda:1"). */
  device: string;
  /** Models that the device cannot run are refused; false: they run on the CPU. */
  deviceStrict: boolean;
}

export function engineConfig(given: Partial<EngineConfig> = {}): Readonly<EngineConfig> {
  const memoryBytes = given.memoryBytes ?? defaultMemoryBytes();
  const defaults: EngineConfig = {
    threads: availableParallelism(),
    lanes: 1,
    memoryBytes,
    kvMemoryBytes: memoryBytes,
    maxBatchTokens: 256,
    prefillChunk: 64,
    maxSequences: 256,
    maxQueue: 1024,
    defaultContextLength: 4096,
    speculate: "auto",
    solo: "off",
    shareBatches: "auto",
    swap: "off",
    prefixCache: "on",
    device: "cpu",
    deviceStrict: true,
  };
  const config = { ...defaults, ...definedOf(given) };
  for (const [name, value] of Object.entries(config)) {
    if (typeof value === "number" && (!Number.isSafeInteger(value) || value < 1))
      throw usage(`${name} is ${value}; it is a whole number of at least 1`);
  }
  if (config.maxBatchTokens <= config.prefillChunk) {
    throw usage(`maxBatchTokens is ${config.maxBatchTokens}; it must be above prefillChunk, ${config.prefillChunk}`);
  }
  if (config.lanes > config.threads)
    throw usage(`lanes is ${config.lanes}; each needs a thread, and there are ${config.threads}`);
  return Object.freeze(config);
}

function definedOf<Values extends object>(values: Values): Values {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Values;
}

function usage(message: string): BlockllmError {
  return new BlockllmError("usage", message);
}
