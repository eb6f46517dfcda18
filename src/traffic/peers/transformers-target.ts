import { existsSync } from "node:fs";
import { join } from "node:path";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import { processMemory, processorSeconds } from "../process-costs.ts";
import type { Question } from "../questions.ts";
import type { Answer, NewTokens, Target, TargetModel } from "../target.ts";
import { OneByOne } from "./one-by-one.ts";

/** What is used of transformers.js 3 and 4. */
interface Transformers {
  env: { allowRemoteModels: boolean; localModelPath: string };
  AutoModelForCausalLM: { from_pretrained(folder: string, options: object): Promise<PeerModel> };
  Tensor: new (type: "int64", data: BigInt64Array, dims: number[]) => unknown;
}

interface PeerModel {
  generate(options: object): Promise<unknown>;
  dispose(): Promise<unknown>;
}

/** transformers.js with one model each: every answer by itself, those of one model one after the other. */
export class TransformersTarget implements Target {
  readonly models: readonly TargetModel[];
  readonly #library: Transformers;
  readonly #loaded: ReadonlyMap<string, { model: PeerModel; turns: OneByOne }>;

  private constructor(library: Transformers, loaded: ReadonlyMap<string, { model: PeerModel; turns: OneByOne }>) {
    this.#library = library;
    this.#loaded = loaded;
    this.models = [...loaded.keys()].map((name) => ({ name, contextLength: null, vocabulary: null }));
  }

  /** `entry`: where the package is. Error: model_unsupported for a folder it does not load. */
  static async load(entry: string, models: { name: string; folder: string }[]): Promise<TransformersTarget> {
    const library = (await import(entry)) as Transformers;
    library.env.allowRemoteModels = false;
    library.env.localModelPath = "";
    const loaded = new Map<string, { model: PeerModel; turns: OneByOne }>();
    for (const { name, folder } of models) {
      try {
        loaded.set(name, { model: await loadModel(library, folder), turns: new OneByOne() });
      } catch (cause) {
        throw new BlockllmError("model_unsupported", `transformers.js does not load ${folder}: ${reasonOf(cause)}`, {
          hint: "it wants a folder with config.json and model.onnx or onnx/model.onnx; give such with --originals",
          cause,
        });
      }
    }
    return new TransformersTarget(library, loaded);
  }

  async ask(question: Question, onTokens: (tokens: NewTokens) => void, signal: AbortSignal): Promise<Answer> {
    const { model, turns } = this.#loaded.get(question.model)!;
    return await turns.run(async () => {
      signal.throwIfAborted();
      return await this.#generate(model, question, onTokens);
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
    for (const { model } of this.#loaded.values()) await model.dispose();
  }

  async #generate(
    model: PeerModel,
    { prompt, maxTokens, temperature }: Question,
    onTokens: (tokens: NewTokens) => void,
  ): Promise<Answer> {
    const { Tensor } = this.#library;
    const dims = [1, prompt.length];
    let isPrompt = true;
    let completionTokens = 0;
    // The prompt comes first, then each token as it is chosen.
    const put = (rows: bigint[][]): void => {
      const ids = rows[0]!.map(Number);
      if (!isPrompt) {
        onTokens({ count: ids.length, ids });
        completionTokens += ids.length;
      }
      isPrompt = false;
    };
    await model.generate({
      inputs: new Tensor("int64", BigInt64Array.from(prompt, BigInt), dims),
      attention_mask: new Tensor("int64", new BigInt64Array(prompt.length).fill(1n), dims),
      max_new_tokens: maxTokens,
      // No token ends an answer; with `min_new_tokens` it would be kept from choosing one.
      eos_token_id: -1,
      do_sample: temperature > 0,
      ...(temperature > 0 && { temperature }),
      streamer: { put, end: () => {} },
    });
    return { reason: "length", promptTokens: prompt.length, completionTokens };
  }
}

async function loadModel({ AutoModelForCausalLM }: Transformers, folder: string): Promise<PeerModel> {
  const subfolder = existsSync(join(folder, "onnx")) ? "onnx" : "";
  return await AutoModelForCausalLM.from_pretrained(folder, {
    subfolder,
    model_file_name: "model",
    dtype: "fp32",
    device: "cpu",
    local_files_only: true,
    // Its own name for external data; files of other names are found by ONNX Runtime, beside the graph.
    ...(existsSync(join(folder, subfolder, "model.onnx_data")) && { use_external_data_format: true }),
  });
}
