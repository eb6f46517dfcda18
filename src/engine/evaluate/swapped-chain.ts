import type { Digest } from "../../blocks/block.ts";
import type { ChainEntry, ModelDocument } from "../../store/model-document.ts";
import { originalEntry } from "../../store/merged-chain.ts";
import { afterMerges, type Merge } from "./choose-merges.ts";

/** The chain with all merges. What an adapter was made for stays. */
export function swapBlocks(chain: readonly ChainEntry[], merges: readonly Merge[]): ChainEntry[] {
  return chain.map((entry) => (entry.adapter ? entry : { ...entry, digest: afterMerges(entry.digest, merges) }));
}

/** Where two chains of equal length first differ; their length if nowhere. */
export function firstChange(a: readonly ChainEntry[], b: readonly ChainEntry[]): number {
  const at = a.findIndex((entry, place) => runsKey(entry) !== runsKey(b[place]!));
  return at === -1 ? a.length : at;
}

/** Equal for chains that compute the same. */
export function chainKey(chain: readonly ChainEntry[]): string {
  return chain.map(runsKey).join(" ");
}

export interface MergeRecord {
  /** Bytes of the block that runs now. */
  bytes: (digest: Digest) => number;
  evidence: (from: Digest, by: Digest) => Record<string, number | string>;
  keepOriginals: boolean;
}

/** The document to store: each merged place with the block that the model came with, and the evidence. */
export function documentWithMerges(
  document: ModelDocument,
  merges: readonly Merge[],
  { bytes, evidence, keepOriginals }: MergeRecord,
): ModelDocument {
  const swapped = swapBlocks(document.chain, merges);
  const chain = document.chain.map((entry, at): ChainEntry => {
    const { digest } = swapped[at]!;
    if (digest === entry.digest) return entry;
    const { kind, layer, ...original } = originalEntry(entry);
    if (digest === original.digest && original.adapter === undefined) return { kind, layer, ...original };
    const kept = keepOriginals && entry.replaces?.kept !== false;
    const replaces = { tier: "equivalent" as const, ...original, kept, evidence: evidence(entry.digest, digest) };
    return { kind, layer, digest, bytes: bytes(digest), replaces };
  });
  return { ...document, chain };
}

/** Equal for entries that compute the same. */
export function runsKey({ digest, adapter }: ChainEntry): string {
  return `${digest}${adapter?.digest ?? ""}`;
}
