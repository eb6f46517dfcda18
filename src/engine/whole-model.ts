import { Tensor } from "onnxruntime-node";

import { describeOpaque } from "../blocks/opaque-model.ts";
import type { OpaqueChain } from "../chain/chain.ts";
import type { BlockSource } from "../chain/resolve-chain.ts";
import type { TensorInfo } from "../onnx/model.ts";
import { bindAdapter, readAdapter } from "../onnx/read-adapter.ts";
import { readModel } from "../onnx/read-model.ts";
import { readTensor } from "../onnx/tensor-data.ts";
import type { ModelDocument } from "../store/model-document.ts";
import { chooseAdapter } from "../store/source-adapter.ts";
import { locateModel } from "../store/source-folder.ts";
import { BlockllmError } from "../support/errors.ts";
import type { BatchItem } from "./execute/executor.ts";
import { likeliest } from "./execute/sampler.ts";
import { OpaqueExecutor } from "./execute/opaque-executor.ts";

/** A model's own graph in one ONNX Runtime session: what chains are judged against. */
export interface WholeModel {
  /** float32 logits [tokens, vocabulary]; `stepwise`: fed one by one, whatever it was opened for. */
  logits(tokens: readonly number[], options?: { stepwise?: boolean }): Promise<Float32Array>;
  greedy(tokens: readonly number[], count: number): Promise<number[]>;
  close(): Promise<void>;
}

const SEQUENCE = 1;

/**
 * `path` is a model folder or an .onnx file. `stepwise` feeds one token per call: where the graph quantises all rows of
 * a call by one scale, only this gives each token its own, as chains do. `adapter` fills the graph's adapter inputs; by
 * default the only one beside the graph. Throws what locating, reading or loading it throws.
 */
export async function openWholeModel(
  path: string,
  options: { vocabSize: number; threads: number; stepwise: boolean; adapter?: string },
): Promise<WholeModel> {
  const found = locateModel(path);
  const { graph, facts } = found;
  const plain = await readModel(graph);
  const adapter = chooseAdapter(plain, found, options.adapter);
  const factors = adapter === null ? [] : readAdapter(adapter);
  const spec = describeOpaque(adapter === null ? plain : bindAdapter(plain, factors, adapter), facts);
  const inputs = new Set(plain.graph.inputs.map(({ name }) => name));
  const fixed = Object.fromEntries(
    factors.flatMap((each) => (inputs.has(each.name) ? [[each.name, fedAs(each)]] : [])),
  );
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
  const executor = new OpaqueExecutor(chain, { source, threads: options.threads, maxBatchTokens: 1 }, fixed);
  await executor.load();
  const run = async ({
    start,
    stepwise = options.stepwise,
    ...asked
  }: Pick<BatchItem, "tokens" | "start" | "logits"> & { stepwise?: boolean }): Promise<Float32Array> => {
    if (start === 0) executor.open(SEQUENCE);
    const [rows] = await executor.execute([{ sequence: SEQUENCE, start, stepwise, ...asked }]);
    return rows!;
  };
  return {
    logits: async (tokens, how) => await run({ tokens, start: 0, logits: "all", ...how }),
    greedy: async (tokens, count) => {
      const generated: number[] = [];
      let row = await run({ tokens, start: 0, logits: "last" });
      while (generated.push(likeliest(row)) < count) {
        const start = tokens.length + generated.length - 1;
        row = await run({ tokens: [generated.at(-1)!], start, logits: "last" });
      }
      return generated;
    },
    close: async () => await executor.close(),
  };
}

function fedAs(tensor: TensorInfo): Tensor {
  const { buffer } = readTensor(tensor).slice();
  if (tensor.dtype === "float16") return new Tensor("float16", new Uint16Array(buffer), tensor.dims);
  if (tensor.dtype === "float32") return new Tensor("float32", new Float32Array(buffer), tensor.dims);
  throw new BlockllmError("model_unsupported", `${tensor.name}: an adapter's tensor of ${tensor.dtype} cannot be fed`, {
    hint: "compare with a graph that holds the adapter: leave --against out",
  });
}
