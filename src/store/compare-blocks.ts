import type { BlockDocument, TensorEntry } from "../blocks/block.ts";
import { ElementStream } from "../fingerprint/element-stream.ts";
import { WeightDistance } from "../fingerprint/weight-distance.ts";
import type { BlobStore } from "./blob-store.ts";
import { blockTensors } from "./sketch-blocks.ts";

/** Two blocks of one bucket (sketch-blocks.ts), element by element. */
export interface BlockDistance {
  weight_cosine: number;
  /** ‖b − a‖ / ‖a‖ over all weights. */
  relative_delta: number;
  tensors: TensorDistance[];
}

export interface TensorDistance {
  /** As `b` calls it. */
  name: string;
  dims: number[];
  /** The very same bytes. */
  same: boolean;
  weight_cosine: number;
  relative_delta: number;
  max_abs_delta: number;
}

/** Reads both blocks once, verified, in bounded memory. Changes nothing. */
export async function compareBlocks(
  blobs: BlobStore,
  { a, b }: { a: BlockDocument; b: BlockDocument },
  signal?: AbortSignal,
): Promise<BlockDistance> {
  const all = new WeightDistance();
  const tensors: TensorDistance[] = [];
  const others = blockTensors(b);
  for (const [at, tensor] of blockTensors(a).entries()) {
    const other = others[at]!;
    const distance = await compareTensors(blobs, { a: tensor, b: other }, signal);
    all.addAll(distance);
    tensors.push({
      name: other.name,
      dims: other.dims,
      same: tensor.digest === other.digest,
      weight_cosine: distance.cosine,
      relative_delta: distance.relativeDelta,
      max_abs_delta: distance.mostDelta,
    });
  }
  return { weight_cosine: all.cosine, relative_delta: all.relativeDelta, tensors };
}

/** In a stream, so of any size; both verified. */
export async function compareTensors(
  blobs: BlobStore,
  { a, b }: { a: TensorEntry; b: TensorEntry },
  signal?: AbortSignal,
): Promise<WeightDistance> {
  const distance = new WeightDistance();
  const floatsA = floatsOf(blobs, a, signal);
  const floatsB = a.digest === b.digest ? null : floatsOf(blobs, b, signal);
  try {
    let restB: Float32Array = new Float32Array();
    for await (const valuesA of floatsA) {
      if (floatsB === null) {
        distance.add(valuesA, valuesA);
        continue;
      }
      for (let from = 0; from < valuesA.length;) {
        if (restB.length === 0) {
          const next = await floatsB.next();
          if (next.done) return distance;
          restB = next.value;
        }
        const count = Math.min(valuesA.length - from, restB.length);
        distance.add(valuesA.subarray(from, from + count), restB.subarray(0, count));
        restB = restB.subarray(count);
        from += count;
      }
    }
    // To its end, where a damaged blob says so.
    for (let end = floatsB === null; !end;) end = (await floatsB!.next()).done === true;
    return distance;
  } finally {
    await floatsA.return(undefined);
    await floatsB?.return(undefined);
  }
}

async function* floatsOf(
  blobs: BlobStore,
  { digest, dtype }: TensorEntry,
  signal?: AbortSignal,
): AsyncGenerator<Float32Array> {
  const elements = new ElementStream(dtype);
  for await (const chunk of blobs.stream(digest, signal)) yield* elements.pieces(chunk);
}
