import type { Digest } from "../blocks/block.ts";
import { digestDocument } from "../fingerprint/digest.ts";
import type { ChainEntry, ModelDocument } from "./model-document.ts";

export type MergeTier = NonNullable<ChainEntry["replaces"]>["tier"];

/** The entry as it was split, whether or not its original is still stored. */
export function originalEntry({ kind, layer, digest, bytes, adapter, replaces }: ChainEntry): ChainEntry {
  const own = replaces ?? { digest, bytes, adapter };
  return {
    kind,
    layer,
    digest: own.digest,
    bytes: own.bytes,
    ...(own.adapter === undefined ? {} : { adapter: own.adapter }),
  };
}

/** The chain with the originals back that are still stored; of `tiers` only, where given. */
export function restoredChain(chain: ChainEntry[], tiers?: readonly MergeTier[]): ChainEntry[] {
  return chain.map((entry) =>
    entry.replaces?.kept === true && (tiers?.includes(entry.replaces.tier) ?? true) ? originalEntry(entry) : entry,
  );
}

/**
 * What a model becomes that is split again: `known` is in the repository, `again` comes from the file, with every
 * block stored. Merges of the very same model stay, and can be undone from now on even if their originals had been
 * given up. null: it is another model.
 */
export function againAfterMerges(known: ModelDocument, again: ModelDocument): ModelDocument | null {
  if (splitIdentity(known) !== splitIdentity(again)) return null;
  if (again.exactOnly === true) return again;
  const chain = known.chain.map((entry) =>
    entry.replaces === undefined ? entry : { ...entry, replaces: { ...entry.replaces, kept: true } },
  );
  return { ...known, chain };
}

/** Equal for documents that one and the same split gave. */
function splitIdentity(document: ModelDocument): Digest {
  const { exactOnly: _, ...split } = document;
  return digestDocument({ ...split, chain: split.chain.map(originalEntry) });
}
