import type { Digest } from "../../blocks/block.ts";
import { blockReferences } from "../../store/references.ts";
import type { Repository, StoredModel } from "../../store/repository.ts";
import type { Merge } from "./choose-merges.ts";
import { swapBlocks } from "./swapped-chain.ts";

/** Bytes of the blocks that run in all models together, documents included, every blob once: a function of the merges. */
export async function countBytes(
  repository: Repository,
  models: readonly StoredModel[],
): Promise<(merges: readonly Merge[]) => number> {
  const blobs = new Map<Digest, [Digest, number][]>();
  for (const { digest } of models.flatMap(({ document }) => document.chain)) {
    const references = blockReferences(await repository.readBlock(digest));
    const own: [Digest, number] = [digest, await repository.blobs.size(digest)];
    blobs.set(digest, [own, ...references.map(({ digest: blob, size }): [Digest, number] => [blob, size])]);
  }
  return (merges) => {
    const running = models.flatMap(({ document }) => swapBlocks(document.chain, merges)).map(({ digest }) => digest);
    const stored = new Map([...new Set(running)].flatMap((digest) => blobs.get(digest)!));
    return [...stored.values()].reduce((sum, size) => sum + size, 0);
  };
}
