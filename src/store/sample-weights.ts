import type { BlockDocument } from "../blocks/block.ts";
import { toFloats } from "../fingerprint/element-stream.ts";
import type { BlobStore } from "./blob-store.ts";
import { blockTensors } from "./sketch-blocks.ts";

/** Of each tensor. Enough to tell distances apart to a few per cent. */
const SAMPLED_BYTES = 1 << 17;

/** The first elements of each of a block's tensors: for choosing only, since what is cut off is not verified. */
export async function sampleWeights(blobs: BlobStore, document: BlockDocument): Promise<Float32Array[]> {
  const samples: Float32Array[] = [];
  for (const { digest, dtype } of blockTensors(document)) {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of blobs.stream(digest)) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= SAMPLED_BYTES) break;
    }
    const whole = new Uint8Array(Buffer.concat(chunks).subarray(0, SAMPLED_BYTES));
    samples.push(toFloats(whole, dtype));
  }
  return samples;
}

/** Root mean square of the tensors' relative differences. */
export function sampledDistance(a: Float32Array[], b: Float32Array[]): number {
  let sum = 0;
  for (const [at, values] of a.entries()) sum += relativeSquares(values, b[at]!);
  return Math.sqrt(sum / a.length);
}

function relativeSquares(a: Float32Array, b: Float32Array): number {
  let delta = 0;
  let both = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = b[i]! - a[i]!;
    if (!Number.isFinite(difference)) continue;
    delta += difference * difference;
    both += a[i]! * a[i]! + b[i]! * b[i]!;
  }
  return delta === 0 ? 0 : (2 * delta) / both;
}
