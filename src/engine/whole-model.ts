import { describeOpaque } from "../blocks/opaque-model.ts";
import type { OpaqueChain } from "../chain/chain.ts";
import type { BlockSource } from "../chain/resolve-chain.ts";
import { readModel } from "../onnx/read-model.ts";
import type { ModelDocument } from "../store/model-document.ts";
import { locateModel } from "../store/source-folder.ts";
import { likeliest } from "./execute/sampler.ts";
import { OpaqueExecutor } from "./execute/opaque-executor.ts";

/** A model's own graph in one ONNX Runtime session: what chains are judged against. */
export interface WholeModel {
  /** float32 logits [tokens, vocabulary]. */
  logits(tokens: readonly number[]): Promise<Float32Array>;
  greedy(tokens: readonly number[], count: number): Promise<number[]>;
  close(): Promise<void>;
}

const SEQUENCE = 1;

/**
 * `path` is a model folder or an .onnx file. `stepwise` feeds one token per call: where the graph quantises all rows of
 * a call by one scale, only this gives each token its own, as chains do. Throws what locating, reading or loading it throws.
 */
export async function openWholeModel(
  path: string,
  options: { vocabSize: number; threads: number; stepwise: boolean },
): Promise<WholeModel> {
  const { graph, facts } = locateModel(path);
  const spec = describeOpaque(await readModel(graph), facts);
  const part = {
    role: "main",
    graph: "sha256:",
    graphBytes: 0,
    inputs: [],
    outputs: [],
    tensors: [],
    label: path,
    rotary: null,
    factors: [],
  } as const;
  const chain: OpaqueChain = {
    kind: "opaque",
    name: path,
    key: path,
    document: { vocabSize: options.vocabSize } as ModelDocument,
    part: { ...part, inputs: [], outputs: [], tensors: [], factors: [] },
    spec,
  };
  const source = { blobs: { path: () => graph } } as unknown as BlockSource;
  const executor = new OpaqueExecutor(chain, { source, threads: options.threads, maxBatchTokens: 1 });
  await executor.load();
  const run = async (tokens: readonly number[], start: number, logits: "all" | "last"): Promise<Float32Array> => {
    if (start === 0) executor.open(SEQUENCE);
    const [rows] = await executor.execute([{ sequence: SEQUENCE, tokens, start, logits, stepwise: options.stepwise }]);
    return rows!;
  };
  return {
    logits: async (tokens) => await run(tokens, 0, "all"),
    greedy: async (tokens, count) => {
      const generated: number[] = [];
      let row = await run(tokens, 0, "last");
      while (generated.push(likeliest(row)) < count)
        row = await run([generated.at(-1)!], tokens.length + generated.length - 1, "last");
      return generated;
    },
    close: async () => await executor.close(),
  };
}
