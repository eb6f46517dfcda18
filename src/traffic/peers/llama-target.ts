import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import { processMemory, processorSeconds } from "../process-costs.ts";
import type { Question } from "../questions.ts";
import type { Answer, NewTokens, Target, TargetModel } from "../target.ts";
import { OneByOne } from "./one-by-one.ts";

/** What is used of node-llama-cpp 3. */
interface LlamaLibrary {
  getLlama(options: object): Promise<{
    loadModel(options: { modelPath: string }): Promise<{ createContext(options: object): Promise<LlamaContext> }>;
    dispose(): Promise<void>;
  }>;
}

interface LlamaContext {
  getSequence(): LlamaSequence;
}

interface LlamaSequence {
  evaluate(tokens: number[], options: object): AsyncIterable<number>;
  dispose(): void;
}

interface Loaded {
  context: LlamaContext;
  /** One for each sequence that the context holds; a question waits for one of them. */
  places: OneByOne[];
  next: number;
}

/** node-llama-cpp with one model each; sequences of one model in one batch, as its context makes it. */
export class LlamaTarget implements Target {
  readonly models: readonly TargetModel[];
  readonly #loaded: ReadonlyMap<string, Loaded>;
  readonly #dispose: () => Promise<void>;

  private constructor(loaded: ReadonlyMap<string, Loaded>, dispose: () => Promise<void>) {
    this.#loaded = loaded;
    this.#dispose = dispose;
    this.models = [...loaded.keys()].map((name) => ({ name, contextLength: null, vocabulary: null }));
  }

  /** `entry`: where the package is. Error: model_unsupported for a folder without a .gguf file that it loads. */
  static async load(
    entry: string,
    models: { name: string; folder: string }[],
    { sequences, contextLength, threads }: { sequences: number; contextLength: number; threads: number },
  ): Promise<LlamaTarget> {
    const library = (await import(entry)) as LlamaLibrary;
    const llama = await library.getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
    const loaded = new Map<string, Loaded>();
    for (const { name, folder } of models) {
      try {
        const model = await llama.loadModel({ modelPath: ggufIn(folder) });
        const context = await model.createContext({ sequences, contextSize: contextLength, threads });
        loaded.set(name, { context, places: Array.from({ length: sequences }, () => new OneByOne()), next: 0 });
      } catch (cause) {
        await llama.dispose();
        throw new BlockllmError("model_unsupported", `node-llama-cpp does not load ${folder}: ${reasonOf(cause)}`, {
          hint: "it wants folders with one .gguf file each; give such with --originals",
          cause,
        });
      }
    }
    return new LlamaTarget(loaded, async () => await llama.dispose());
  }

  async ask(question: Question, onTokens: (tokens: NewTokens) => void, signal: AbortSignal): Promise<Answer> {
    const loaded = this.#loaded.get(question.model)!;
    const place = loaded.places[loaded.next++ % loaded.places.length]!;
    return await place.run(async () => {
      signal.throwIfAborted();
      const sequence = loaded.context.getSequence();
      try {
        return await evaluate(sequence, question, onTokens);
      } finally {
        sequence.dispose();
      }
    });
  }

  memoryBytes(): number | null {
    return processMemory(process.pid);
  }

  processorSeconds(): number | null {
    return processorSeconds(process.pid);
  }

  holdings(): Promise<null> {
    return Promise.resolve(null);
  }

  async close(): Promise<void> {
    await this.#dispose();
  }
}

async function evaluate(
  sequence: LlamaSequence,
  { prompt, maxTokens, temperature }: Question,
  onTokens: (tokens: NewTokens) => void,
): Promise<Answer> {
  let completionTokens = 0;
  for await (const token of sequence.evaluate(prompt, { temperature, yieldEogToken: true })) {
    onTokens({ count: 1, ids: [token] });
    if (++completionTokens === maxTokens) break;
  }
  const reason = completionTokens === maxTokens ? "length" : "stop";
  return { reason, promptTokens: prompt.length, completionTokens };
}

function ggufIn(folder: string): string {
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".gguf")) : [];
  if (files.length !== 1) throw new Error(`it has ${files.length} .gguf files, not one`);
  return join(folder, files[0]!);
}
