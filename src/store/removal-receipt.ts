import type { Digest } from "../blocks/block.ts";
import { canonicalModelName } from "./model-name.ts";
import { readIndex } from "./index-file.ts";
import type { Index } from "./document-schemas.ts";
import { markReachable } from "./mark.ts";
import type { Repository } from "./repository.ts";

/** What goes with a model and what stays. The keys are the stable JSON of `rm`. */
export interface RemovalReceipt {
  removed: string;
  digest: Digest;
  /** Needed by nothing else: the next garbage collection takes it. */
  frees: Amount;
  survives: Amount & {
    /** Who needs what of it, the most first; what several need counts for each. */
    because: (Amount & { model: string })[];
  };
}

interface Amount {
  blobs: number;
  bytes: number;
}

/** Removes a model's name and says what that frees. Errors: model_not_found; repository_invalid, repository_locked. */
export async function removeWithReceipt(repository: Repository, name: string): Promise<RemovalReceipt> {
  const index = await readIndex(repository.blobs.folder);
  const models = await repository.listModels();
  const wanted = canonicalModelName(name);
  // Of others alike: what cannot be read keeps nothing alive here, and `gc` refuses to sweep by it.
  const reach = async (manifests: Index["manifests"]): Promise<Map<Digest, number>> =>
    await markReachable(repository.blobs, { ...index, manifests }, () => {});
  const others = models.filter((model) => model.name !== wanted);
  const isOwn = ({ digest }: { digest: Digest }): boolean =>
    models.some((model) => model.name === wanted && model.digest === digest) &&
    !others.some((model) => model.digest === digest);
  const own = await reach(
    index.manifests.filter(({ digest }) => models.some((m) => m.name === wanted && m.digest === digest)),
  );
  const rest = await reach(index.manifests.filter((found) => !isOwn(found)));
  const because = [];
  for (const { name: model, digest } of others) {
    const needed = await reach(index.manifests.filter((found) => found.digest === digest));
    const amount = amountOf(own, (blob) => needed.has(blob));
    if (amount.blobs > 0) because.push({ model, ...amount });
  }
  const entry = await repository.removeModel(name);
  return {
    removed: entry.name,
    digest: entry.digest,
    frees: amountOf(own, (blob) => !rest.has(blob)),
    survives: {
      ...amountOf(own, (blob) => rest.has(blob)),
      because: because.toSorted((a, b) => b.bytes - a.bytes || (a.model < b.model ? -1 : 1)),
    },
  };
}

function amountOf(blobs: ReadonlyMap<Digest, number>, counts: (blob: Digest) => boolean): Amount {
  const counted = [...blobs].filter(([blob]) => counts(blob));
  return { blobs: counted.length, bytes: counted.reduce((sum, [, bytes]) => sum + bytes, 0) };
}
