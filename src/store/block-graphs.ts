import type { BlockDocument, BlockPart } from "../blocks/block.ts";
import { type Projection, projectionsOf } from "../blocks/projections.ts";
import { digestBytes, digestDocument } from "../fingerprint/digest.ts";
import type { OnnxModel } from "../onnx/model.ts";
import { readGraphAlone } from "../onnx/read-model.ts";
import { writeModel } from "../onnx/write-model.ts";
import type { FileBlobStore } from "./file-blob-store.ts";

/**
 * Equal for blocks that compute the same function of their weights: documents and graphs with every digest of a tensor
 * left out. Equal weights under another epsilon, another activation or other angles are another function.
 */
export async function functionOf(blobs: FileBlobStore, document: BlockDocument): Promise<string> {
  const parts = [];
  for (const { role, inputs, outputs, tensors, ...part } of document.parts) {
    const graph = writeModel(await readGraphAlone(blobs.path(part.graph)), ({ name, data }) => {
      const place = tensors.findIndex((tensor) => tensor.name === name);
      return data.kind === "file" && place !== -1 ? { location: String(place), offset: 0, length: data.length } : null;
    });
    const weights = tensors.map(({ name, dtype, dims }) => ({ name, dtype, dims }));
    parts.push({ role, inputs, outputs, weights, graph: digestBytes(graph) });
  }
  const { kind, core, rotary, opaque } = document;
  return digestDocument({ kind, core, rotary, opaque, parts });
}

/** Which of a block's weights adapters can add to, in the order of `blockTensors`; null: not this one. */
export async function blockProjections(blobs: FileBlobStore, { kind, parts }: BlockDocument) {
  const projections: (Projection | null)[] = [];
  for (const part of parts) {
    const graph = kind === "opaque" || kind === "embedding" ? null : await readPart(blobs, part);
    const known = graph === null ? new Map<string, Projection>() : projectionsOf(graph);
    projections.push(...part.tensors.map(({ name }) => known.get(name) ?? null));
  }
  return projections;
}

async function readPart(blobs: FileBlobStore, part: BlockPart): Promise<OnnxModel> {
  return await readGraphAlone(blobs.path(part.graph));
}
