import type { Digest } from "../blocks/block.ts";
import { type MergeTier, originalEntry } from "./merged-chain.ts";
import type { ChainEntry } from "./model-document.ts";
import { adapterReferences, blockReferences } from "./references.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { blobsOf } from "./sharing-pairs.ts";
import { residualsAmong, type Residuals } from "./stored-residual.ts";

/** Bytes by blob. */
type Blobs = Map<Digest, number>;

/** Where the bytes of models together are saved; each sum counts a blob once. */
export interface StorageAccounts {
  /** By model: what it took as it was split, by itself. */
  logical: Map<string, number>;
  /** By model: the blobs that running it takes; originals that are kept for an undo are not among them. */
  running: Map<string, Map<Digest, number>>;
  /** The same as they are stored: residuals and their bases in the place of tensors. */
  needed: Map<string, Map<Digest, number>>;
  /** All of the models as they were split together, equal blobs once. */
  distinct: number;
  /** On disk now. */
  stored: number;
  /** By what runs instead, were no original kept. */
  merges: Record<MergeTier, { blocks: number; saved_bytes: number }>;
  /** By differences to bases, in what runs. */
  residual: { blocks: number; saved_bytes: number };
  /** Originals that are stored for an undo alone. */
  kept_originals: number;
}

/** stored = distinct − merges − residual + kept originals. Changes nothing. */
export async function countStorage(repository: Repository, models: StoredModel[]): Promise<StorageAccounts> {
  const [asSplit, running, needed, stored] = [new Map(), new Map(), new Map(), new Map()] as [
    Blobs,
    Blobs,
    Blobs,
    Blobs,
  ];
  const encoded = new Set<Digest>();
  const tiers = new Map<Digest, MergeTier>();
  const merged = { lowrank: new Set<Digest>(), equivalent: new Set<Digest>() };
  const logical = new Map<string, number>();
  const runningOf = new Map<string, Blobs>();
  const neededOf = new Map<string, Blobs>();
  for (const model of models) {
    const beside = blobsBeside(model);
    const besideAsSplit = await blobsBesideAsSplit(repository, model);
    const own = new Map(besideAsSplit);
    const residuals = new Map(residualsAmong(model.manifest.layers).map((residual) => [residual.tensor, residual]));
    const merge = model.document.chain.find(({ replaces }) => replaces !== undefined)?.replaces;
    // The documents of merges are merges' bytes; those that residuals add are residuals'.
    const ownRunning = new Map(merge ? beside : besideAsSplit);
    if (merge) for (const digest of [...beside.keys(), ...besideAsSplit.keys()]) tiers.set(digest, merge.tier);
    const ownNeeded = new Map(beside);
    for (const entry of model.document.chain) {
      const original = await blobsOfEntry(repository, originalEntry(entry), model);
      addAll(own, original);
      const runs = entry.replaces ? await blobsOfEntry(repository, entry, model) : original;
      addAll(ownRunning, runs);
      addAll(ownNeeded, asStored(runs, residuals));
      if ([...runs.keys()].some((digest) => residuals.has(digest))) encoded.add(entry.digest);
      if (!entry.replaces) continue;
      merged[entry.replaces.tier].add(entry.replaces.digest);
      for (const digest of [...original.keys(), ...runs.keys()]) tiers.set(digest, entry.replaces.tier);
    }
    logical.set(model.name, sum(own));
    addAll(asSplit, own);
    addAll(running, ownRunning);
    addAll(needed, ownNeeded);
    runningOf.set(model.name, ownRunning);
    neededOf.set(model.name, ownNeeded);
    addAll(stored, blobsOf(model));
  }
  const saved = { lowrank: 0, equivalent: 0 };
  for (const [digest, size] of asSplit) if (!running.has(digest)) saved[tiers.get(digest)!] += size;
  for (const [digest, size] of running) if (!asSplit.has(digest)) saved[tiers.get(digest)!] -= size;
  return {
    logical,
    running: runningOf,
    needed: neededOf,
    distinct: sum(asSplit),
    stored: sum(stored),
    merges: {
      lowrank: { blocks: merged.lowrank.size, saved_bytes: saved.lowrank },
      equivalent: { blocks: merged.equivalent.size, saved_bytes: saved.equivalent },
    },
    residual: { blocks: encoded.size, saved_bytes: sum(running) - sum(needed) },
    kept_originals: sum(new Map([...stored].filter(([digest]) => !needed.has(digest)))),
  };
}

function asStored(blobs: Blobs, residuals: Residuals): Blobs {
  return new Map(
    [...blobs].flatMap(([digest, size]): [Digest, number][] => {
      const residual = residuals.get(digest);
      if (!residual) return [[digest, size]];
      const { base, bytes, blob } = residual;
      return [
        [blob.digest, blob.size],
        [base, bytes],
      ];
    }),
  );
}

/** What a model has besides blocks. */
function blobsBeside({ digest, size, manifest, document }: StoredModel): Blobs {
  const { config } = manifest;
  const files = document.files.map((file): [Digest, number] => [file.digest, file.bytes]);
  return new Map([[digest, size], [config.digest, config.size], ...files]);
}

async function blobsBesideAsSplit(repository: Repository, model: StoredModel): Promise<Blobs> {
  const isAsSplit =
    model.document.chain.every(({ replaces }) => replaces === undefined) &&
    residualsAmong(model.manifest.layers).length === 0;
  const documents = isAsSplit ? null : await repository.documentsAsSplit(model);
  if (documents === null) return blobsBeside(model);
  const files = model.document.files.map((file): [Digest, number] => [file.digest, file.bytes]);
  return new Map([...documents.map(({ digest, size }): [Digest, number] => [digest, size]), ...files]);
}

/** Of an original that was given up, the document is gone too: it counts as one blob of its block's bytes. */
async function blobsOfEntry(
  repository: Repository,
  { digest, bytes, adapter }: ChainEntry,
  { manifest }: StoredModel,
): Promise<Blobs> {
  const document = manifest.layers.find((layer) => layer.digest === digest);
  if (!document) return new Map([[digest, bytes]]);
  const references = blockReferences(await repository.readBlock(digest));
  const blobs: Blobs = new Map([[digest, document.size]]);
  const factors = adapter && manifest.layers.find((layer) => layer.digest === adapter.digest);
  if (factors) {
    blobs.set(factors.digest, factors.size);
    references.push(...adapterReferences(await repository.readAdapter(factors.digest)));
  }
  for (const reference of references) blobs.set(reference.digest, reference.size);
  return blobs;
}

function addAll(blobs: Blobs, more: Blobs): void {
  for (const [digest, size] of more) blobs.set(digest, size);
}

function sum(blobs: Blobs): number {
  return [...blobs.values()].reduce((total, size) => total + size, 0);
}
