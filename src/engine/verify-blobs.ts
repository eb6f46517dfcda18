import { partBlobs, type Chain } from "../chain/chain.ts";
import type { BlockSource } from "../chain/resolve-chain.ts";

/**
 * Hashes every graph and tensor that the chains load, each once: ONNX Runtime maps these files and would compute with
 * whatever they hold. What is no file is verified when it is rebuilt (execute/rebuilt-weights.ts). Errors: blob_corrupt.
 */
export async function verifyBlobs(source: BlockSource, chains: readonly Chain[], signal?: AbortSignal): Promise<void> {
  const parts = chains.flatMap((chain) =>
    chain.kind === "opaque" ? [chain.part] : chain.steps.flatMap((step) => (step.kind === "part" ? [step.part] : [])),
  );
  for (const digest of new Set(parts.flatMap(partBlobs))) {
    signal?.throwIfAborted();
    if (!(await source.blobs.has(digest))) continue;
    // The digest is only known at the end of the stream.
    for await (const _ of source.blobs.stream(digest)) void _;
  }
}
