import type { BlockDocument, Digest, TensorEntry } from "../blocks/block.ts";
import { ElementStream } from "../fingerprint/element-stream.ts";
import { sketchBlock, TensorSketch } from "../fingerprint/sketch.ts";
import type { BlobStore } from "./blob-store.ts";
import type { Repository } from "./repository.ts";
import { readSketches, type Sketches, writeSketches } from "./sketch-file.ts";

export interface SketchOptions {
  signal?: AbortSignal;
  onProgress?: (progress: { blocks: number; totalBlocks: number }) => void;
}

/**
 * The sketches of these blocks: those that `split` left in `cache/sketches`, and the missing ones made now, from one verified
 * pass over their weights in bounded memory, and kept. So a repository from anywhere gets them.
 */
export async function sketchBlocks(
  repository: Repository,
  digests: Iterable<Digest>,
  { signal, onProgress }: SketchOptions = {},
): Promise<Sketches> {
  const kept = await readSketches(repository.blobs.folder);
  const wanted = new Set(digests);
  const missing = [...wanted].filter((digest) => !kept.has(digest));
  for (const [at, digest] of missing.entries()) {
    kept.set(digest, await sketchDocument(repository.blobs, await repository.readBlock(digest), signal));
    onProgress?.({ blocks: at + 1, totalBlocks: missing.length });
  }
  if (missing.length > 0) await writeSketches(repository.blobs.folder, kept);
  return new Map([...wanted].map((digest) => [digest, kept.get(digest)!]));
}

async function sketchDocument(blobs: BlobStore, document: BlockDocument, signal?: AbortSignal): Promise<Uint32Array> {
  const sketched: ReturnType<TensorSketch["finish"]>[] = [];
  for (const [ordinal, tensor] of blockTensors(document).entries()) {
    const sketch = new TensorSketch(ordinal);
    const elements = new ElementStream(tensor.dtype);
    for await (const chunk of blobs.stream(tensor.digest, signal)) {
      for (const piece of elements.pieces(chunk)) sketch.add(piece);
    }
    sketched.push(sketch.finish());
  }
  return sketchBlock(sketched);
}

/** A block's weights in the order of its parts. */
export function blockTensors(document: BlockDocument): TensorEntry[] {
  return document.parts.flatMap((part) => part.tensors);
}

/** Only blocks of one bucket are compared: equal kind, and tensor by tensor equal types and shapes. */
export function bucketOf(document: BlockDocument): string {
  const shapes = blockTensors(document).map(({ dtype, dims }) => `${dtype}[${dims.join(",")}]`);
  return `${document.kind} ${shapes.join(" ")}`;
}
