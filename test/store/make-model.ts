import { randomBytes } from "node:crypto";

import type { BlockDocument, TensorEntry } from "../../src/blocks/block.ts";
import { digestHex } from "../../src/fingerprint/digest.ts";
import type { OnnxModel, TensorInfo } from "../../src/onnx/model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { MEDIA_TYPES } from "../../src/store/descriptor.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";
import type { Repository } from "../../src/store/repository.ts";

export interface SmallModel {
  /** Contents of the two tensors of each layer's mlp block; equal contents are equal tensors. */
  layers: { norm: Buffer; weight: Buffer }[];
  /** For models that must not be one and the same. */
  note?: string;
}

/** Contents that differ by seed and not by run. */
export function contents(seed: string, bytes = 64): Buffer {
  return Buffer.alloc(bytes, seed);
}

export function randomModel(layers: number): SmallModel {
  return { layers: Array.from({ length: layers }, () => ({ norm: randomBytes(16), weight: randomBytes(4096) })) };
}

/** Stores everything a model needs and gives its document; `putModel` is the caller's. */
export async function storeParts(repository: Repository, model: SmallModel): Promise<ModelDocument> {
  const chain: ModelDocument["chain"] = [];
  for (const [layer, { norm, weight }] of model.layers.entries()) {
    const { document, bytes } = await storeBlock(repository, norm, weight);
    const { digest } = await repository.putBlock(document);
    chain.push({ kind: "mlp", layer, digest, bytes });
  }
  const tokenizer = await repository.blobs.put(Buffer.from(`{"tokenizer": "for all"}`), MEDIA_TYPES.file);
  return {
    version: 1,
    exporter: "test",
    family: "llama",
    precision: "float32",
    opaque: false,
    layers: model.layers.length,
    hiddenSize: 4,
    vocabSize: 16,
    contextLength: null,
    endTokens: [],
    beginToken: null,
    chain,
    files: [{ name: "tokenizer.json", digest: tokenizer.digest, bytes: tokenizer.size }],
    recognised: [],
    warnings: model.note === undefined ? [] : [model.note],
  };
}

export async function putSmallModel(repository: Repository, name: string, model: SmallModel) {
  return await repository.putModel(name, await storeParts(repository, model));
}

async function storeBlock(repository: Repository, norm: Buffer, weight: Buffer) {
  const tensors: TensorEntry[] = [];
  for (const [name, content] of Object.entries({ norm, weight })) {
    const { digest, size } = await repository.blobs.put(content, MEDIA_TYPES.tensor);
    tensors.push({ name, digest, dtype: "uint8", dims: [size], bytes: size });
  }
  const graph = await repository.blobs.put(graphOf(tensors), MEDIA_TYPES.graph);
  const document: BlockDocument = {
    version: 1,
    kind: "mlp",
    parts: [
      {
        role: "main",
        graph: graph.digest,
        graphBytes: graph.size,
        inputs: [{ name: "hidden", width: 4 }],
        outputs: [{ name: "hidden_out", width: 4 }],
        tensors,
      },
    ],
    core: null,
    rotary: null,
    opaque: null,
  };
  return { document, bytes: graph.size + norm.length + weight.length };
}

/** An ONNX file that takes the tensors from the blobs beside it. It computes nothing sensible. */
export function graphOf(tensors: TensorEntry[]): Uint8Array {
  const initializers = tensors.map(({ name, dtype, dims, bytes }): [string, TensorInfo] => [
    name,
    { name, dtype, dims, data: { kind: "bytes", bytes: new Uint8Array(bytes) } },
  ]);
  const model: OnnxModel = {
    irVersion: 10,
    producer: "test",
    opsets: new Map([["", 24]]),
    graph: { name: "part", nodes: [], initializers: new Map(initializers), inputs: [], outputs: [] },
    functions: new Map(),
  };
  return writeModel(model, ({ name }) => {
    const { digest, bytes } = tensors.find((tensor) => tensor.name === name)!;
    return { location: digestHex(digest), offset: 0, length: bytes };
  });
}
