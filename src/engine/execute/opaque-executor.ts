import { dirname } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { OpaqueSpec } from "../../blocks/block.ts";
import type { OpaqueChain } from "../../chain/chain.ts";
import { readGraphAlone } from "../../onnx/read-model.ts";
import { halfToFloat } from "../../onnx/tensor-data.ts";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import { runBytes, sessionBytes } from "../memory/session-bytes.ts";
import type { BatchItem, Executor, Loadable, Needs } from "./executor.ts";
import { openSession, withRebuiltWeights } from "./rebuilt-weights.ts";
import { runtimeOptions } from "./runtime-options.ts";
import type { SessionSource } from "./segment-session.ts";

type Past = OpaqueSpec["past"][number];

/** One whole model that keeps its own keys and values: sequence after sequence, correct but unshared. */
export class OpaqueExecutor implements Executor, Loadable {
  readonly key: string;
  readonly bytes: number;
  readonly needs: Needs;
  readonly #chain: OpaqueChain;
  readonly #from: SessionSource;
  #session: InferenceSession | null = null;
  /** Inputs that always get the same tensor: an adapter's. */
  readonly #fixed: Readonly<Record<string, Tensor>>;
  readonly #sequences = new Map<number, { past: Map<string, Tensor> }>();

  constructor(chain: OpaqueChain, from: SessionSource, fixed: Readonly<Record<string, Tensor>> = {}) {
    this.key = `opaque ${chain.key}`;
    this.bytes = opaqueBytes(chain, from.maxBatchTokens);
    this.needs = new Map([[chain.key, [this]]]);
    this.#chain = chain;
    this.#from = from;
    this.#fixed = fixed;
  }

  get isLoaded(): boolean {
    return this.#session !== null;
  }

  async load(): Promise<void> {
    const { source, threads } = this.#from;
    const path = source.blobs.path(this.#chain.part.graph);
    const stored = await readGraphAlone(path);
    const model = await withRebuiltWeights(stored, this.#chain.part, source.blobs);
    try {
      this.#session ??=
        model === stored
          ? await InferenceSession.create(path, runtimeOptions(threads))
          : await openSession(model, { folder: dirname(path), threads });
    } catch (cause) {
      throw new BlockllmError("model_unsupported", `ONNX Runtime cannot load ${this.#chain.name}: ${reasonOf(cause)}`, {
        cause,
      });
    }
  }

  async unload(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.release();
  }

  open(sequence: number): void {
    const empty = this.#chain.spec.past.map((past) => [past.input, emptyPast(past)] as const);
    this.#sequences.set(sequence, { past: new Map(empty) });
  }

  readState(): Float32Array {
    return this.#refuse();
  }

  writeState(): void {
    this.#refuse();
  }

  truncate(): void {
    this.#refuse();
  }

  release(sequence: number): void {
    this.#sequences.delete(sequence);
  }

  stateBytes(): number {
    const tensors = [...this.#sequences.values()].flatMap(({ past }) => [...past.values()]);
    return tensors.reduce((sum, tensor) => sum + (tensor.data as Float32Array).byteLength, 0);
  }

  async execute(items: BatchItem[]): Promise<Float32Array[]> {
    const logits: Float32Array[] = [];
    for (const item of items) logits.push(await this.#runItem(item));
    return logits;
  }

  async close(): Promise<void> {
    this.#sequences.clear();
    await this.unload();
  }

  #refuse(): never {
    throw new Error(`${this.#chain.name} keeps its state whole; it has no tokens to take out or put in`);
  }

  async #runItem({ sequence, tokens, start, logits, stepwise }: BatchItem): Promise<Float32Array> {
    const vocabulary = this.#chain.document.vocabSize;
    const stride = stepwise ? 1 : tokens.length;
    const rows: Float32Array[] = [];
    for (let from = 0; from < tokens.length; from += stride) {
      rows.push(await this.#runModel(sequence, tokens.slice(from, from + stride), start + from));
    }
    if (logits === "none") return new Float32Array(0);
    if (logits === "last") return rows.at(-1)!.slice(-vocabulary);
    return joinRows(rows, tokens.length * vocabulary, this.#chain.name);
  }

  async #runModel(sequence: number, tokens: readonly number[], start: number): Promise<Float32Array> {
    const { spec } = this.#chain;
    const state = this.#sequences.get(sequence)!;
    const feeds: Record<string, Tensor> = { ...this.#fixed, ...Object.fromEntries(state.past) };
    for (const constant of spec.constants) feeds[constant.name] = constantTensor(constant);
    const session = this.#session;
    if (!session) throw new Error(`${this.#chain.name} is run while it is not loaded`);
    const feed = (name: string | null, values: readonly number[]): void => {
      if (name !== null)
        feeds[name] = integers(
          values,
          session.inputMetadata.find((input) => input.name === name),
        );
    };
    feed(spec.ids, tokens);
    feed(
      spec.positions,
      tokens.map((_, offset) => start + offset),
    );
    feed(
      spec.attentionMask,
      Array.from({ length: start + tokens.length }, () => 1),
    );
    const outputs = await session.run(feeds);
    state.past = new Map(spec.past.map(({ input, output }) => [input, outputs[output]!]));
    return floatData(outputs[spec.logits]!);
  }
}

/** Memory its session takes. Logits of a whole prompt may come out at once. */
export function opaqueBytes({ part, document }: OpaqueChain, maxBatchTokens: number): number {
  const logitBytes = 4 * maxBatchTokens * document.vocabSize;
  const session = { parts: [part], adapters: [] };
  return part.graphBytes + logitBytes + sessionBytes(session) + runBytes(session, maxBatchTokens);
}

/** Bytes one token adds to a sequence's state. Error: model_unsupported where the file does not say how large it is. */
export function opaqueBytesPerToken({ spec }: Pick<OpaqueChain, "spec">): number {
  return bytesOf(spec.past.filter(({ sequenceAxis }) => sequenceAxis !== null));
}

/** Bytes of a sequence's state that do not grow with its tokens. */
export function opaqueFixedBytes({ spec }: Pick<OpaqueChain, "spec">): number {
  return bytesOf(spec.past.filter(({ sequenceAxis }) => sequenceAxis === null));
}

function bytesOf(past: Past[]): number {
  return past.reduce((sum, each) => sum + lengthOf(each, 1) * CACHE_ELEMENTS[each.dtype].BYTES_PER_ELEMENT, 0);
}

function emptyPast(past: Past): Tensor {
  return new Tensor(past.dtype, new CACHE_ELEMENTS[past.dtype](lengthOf(past, 0)), pastDims(past, 0));
}

function lengthOf(past: Past, tokens: number): number {
  return pastDims(past, tokens).reduce((size, dim) => size * dim, 1);
}

/** What holds the elements of a cache. */
export const CACHE_ELEMENTS = { float32: Float32Array, float16: Uint16Array, int8: Int8Array, uint8: Uint8Array };

function pastDims({ input, dims, sequenceAxis }: Past, tokens: number): number[] {
  return dims.map((dim, axis) => {
    if (axis === sequenceAxis) return tokens;
    if (typeof dim === "number") return dim;
    if (axis === 0) return 1;
    throw new BlockllmError(
      "model_unsupported",
      `Input ${input} has no size for axis ${axis}, so it cannot start empty.`,
    );
  });
}

/** Ids, mask and positions as the graph wants them: int64, or int32. */
function integers(values: readonly number[], input: InferenceSession.ValueMetadata | undefined): Tensor {
  const dims = [1, values.length];
  if (input?.isTensor === true && input.type === "int32") return new Tensor("int32", Int32Array.from(values), dims);
  return new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}

function constantTensor({ dtype, dims, value }: OpaqueSpec["constants"][number]): Tensor {
  const length = dims.reduce((size, dim) => size * dim, 1);
  if (dtype === "bool") return new Tensor("bool", new Uint8Array(length).fill(value), dims);
  return new Tensor("int64", new BigInt64Array(length).fill(BigInt(value)), dims);
}

function floatData({ type, data }: Tensor): Float32Array {
  if (type === "float32") return data as Float32Array;
  if (type === "float16") return Float32Array.from(data as Uint16Array, halfToFloat);
  throw new BlockllmError("model_unsupported", `Logits are ${type}; float32 and float16 are understood.`);
}

function joinRows(parts: Float32Array[], length: number, model: string): Float32Array {
  const rows = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    if (at + part.length > length)
      throw new BlockllmError("model_unsupported", `${model} gives more logits than rows were asked.`);
    rows.set(part, at);
    at += part.length;
  }
  if (at < length) throw new BlockllmError("model_unsupported", `${model} gives logits only for its last tokens.`);
  return rows;
}
