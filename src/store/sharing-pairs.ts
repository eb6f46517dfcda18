import type { BlockKind, Digest } from "../blocks/block.ts";
import type { ChainEntry } from "./model-document.ts";
import type { StoredModel } from "./repository.ts";

/** Two models' blocks that one stored block serves. */
export type Pair = EqualPair | MergedPair;

export interface EqualPair {
  a: string;
  b: string;
  kind: BlockKind;
  layer: number | null;
  tier: "exact";
  weight_cosine: 1;
  relative_delta: 0;
}

/** `a`'s block runs in the place of `b`'s, because it behaves alike; the numbers are what was measured before. */
export interface MergedPair {
  a: string;
  b: string;
  kind: BlockKind;
  layer: number | null;
  tier: "equivalent";
  weight_cosine: number | null;
  relative_delta: number | null;
  output_cosine: number | null;
  /** Of `b` with all its merges from itself as split. null, here as above: nothing was written down. */
  kl: number | null;
  top1: number | null;
}

/** Where two chains part: kind and layer of the first block of `a` that differs from `b`'s; null when none does. */
export interface Divergence {
  a: string;
  b: string;
  layer: number | null;
  kind: BlockKind | null;
  /** Bytes of the blobs that both need to run, tokenizer and configuration included. */
  shared_bytes: number;
}

/** Each block of a model with the first other model that has it: as many pairs as blocks saved, not as all couples. */
export function pairEqualBlocks(models: StoredModel[]): EqualPair[] {
  const first = new Map<Digest, string>();
  const pairs: EqualPair[] = [];
  for (const { name, document } of models) {
    for (const { digest, kind, layer, replaces } of document.chain) {
      const owner = first.get(digest) ?? name;
      first.set(digest, owner);
      if (owner !== name && replaces === undefined)
        pairs.push({ a: owner, b: name, kind, layer, tier: "exact", weight_cosine: 1, relative_delta: 0 });
    }
  }
  return pairs;
}

/** Each block that another one runs for, with the first model that has that one as its own. */
export function pairMergedBlocks(models: StoredModel[]): MergedPair[] {
  const owners = new Map<Digest, string>();
  for (const { name, document } of models.toReversed())
    for (const { digest, replaces } of document.chain) if (!replaces) owners.set(digest, name);
  return models.flatMap(({ name, document }) =>
    document.chain.flatMap(({ digest, kind, layer, replaces }): MergedPair[] => {
      if (replaces?.tier !== "equivalent") return [];
      const measured = (key: string): number | null => {
        const value = replaces.evidence[key];
        return typeof value === "number" ? value : null;
      };
      return [
        {
          a: owners.get(digest) ?? name,
          b: name,
          kind,
          layer,
          tier: "equivalent",
          weight_cosine: measured("weight_cosine"),
          relative_delta: measured("relative_delta"),
          output_cosine: measured("output_cosine"),
          kl: measured("kl"),
          top1: measured("top1"),
        },
      ];
    }),
  );
}

/** Every couple of models once. From the first difference on, no key-value page of one can serve the other. */
export function compareChains(models: StoredModel[], running: ReadonlyMap<string, Map<Digest, number>>): Divergence[] {
  const shared = countSharedBytes(models.map(({ name }) => running.get(name)!));
  return models.flatMap((a, at) =>
    models.slice(at + 1).map((b, after) => ({
      a: a.name,
      b: b.name,
      ...firstDifference(a, b),
      shared_bytes: shared[at * models.length + at + 1 + after]!,
    })),
  );
}

/** For models i < j at [i · models + j]. Blob by blob over who has it: the chains of hundreds of models are not compared in couples. */
function countSharedBytes(models: Map<Digest, number>[]): Float64Array {
  const owners = new Map<Digest, { bytes: number; models: number[] }>();
  for (const [at, blobs] of models.entries()) {
    for (const [digest, bytes] of blobs) {
      const known = owners.get(digest);
      if (known) known.models.push(at);
      else owners.set(digest, { bytes, models: [at] });
    }
  }
  const shared = new Float64Array(models.length ** 2);
  for (const { bytes, models: having } of owners.values()) {
    for (const [place, a] of having.entries()) {
      for (const b of having.slice(place + 1)) shared[a * models.length + b]! += bytes;
    }
  }
  return shared;
}

/** Every blob that a model refers to, itself included, with its bytes. */
export function blobsOf({ digest, size, manifest }: StoredModel): Map<Digest, number> {
  const blobs = new Map<Digest, number>([[digest, size]]);
  for (const blob of [manifest.config, ...manifest.layers]) blobs.set(blob.digest, blob.size);
  return blobs;
}

function firstDifference(
  { document: a }: StoredModel,
  { document: b }: StoredModel,
): Pick<Divergence, "layer" | "kind"> {
  const at = a.chain.findIndex((link, place) => !isSameEntry(link, b.chain[place]));
  const link = at >= 0 ? a.chain[at] : b.chain[a.chain.length];
  return { layer: link?.layer ?? null, kind: link?.kind ?? null };
}

function isSameEntry(a: ChainEntry, b: ChainEntry | undefined): boolean {
  return a.digest === b?.digest && a.adapter?.digest === b.adapter?.digest;
}
