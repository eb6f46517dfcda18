import type { BlockKind, Digest } from "../blocks/block.ts";
import { MEDIA_TYPES } from "./descriptor.ts";
import { originalEntry } from "./merged-chain.ts";
import type { ChainEntry } from "./model-document.ts";
import { blockReferences } from "./references.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { countStorage, type StorageAccounts } from "./storage-accounts.ts";
import {
  blobsOf,
  compareChains,
  type Divergence,
  type Pair,
  pairEqualBlocks,
  pairMergedBlocks,
} from "./sharing-pairs.ts";
import { residualsAmong } from "./stored-residual.ts";

/** What `dedupe` reports: the keys are its stable JSON. Bytes are counted exactly, blob by blob. */
export interface SharingReport {
  models: number;
  /** Blocks in all chains, shared ones counted in each. */
  blocks: number;
  /** Bytes of the models as they were split, each by itself: every blob that it refers to, once. */
  logical_bytes: number;
  /** Bytes of all of them together as they are stored now: every blob once. */
  stored_bytes: number;
  /** Of `stored_bytes`, what is there only so that merges can be undone. */
  kept_original_bytes: number;
  /** logical / stored. 1: nothing is shared. */
  ratio: number;
  /** What was done. stored = logical − saved by all tiers + kept originals. */
  tiers: Record<"exact" | "lowrank" | "residual" | "equivalent", Tier>;
  pairs: Pair[];
  first_divergence: Divergence[];
  per_model: ModelSharing[];
}

export interface Tier {
  /** Blocks that need no storage of their own. */
  blocks: number;
  saved_bytes: number;
}

export interface ModelSharing {
  name: string;
  digest: Digest;
  /** As it was split, by itself. */
  bytes: number;
  /** Bytes of blobs that no other model of the report refers to: what removing it would free. */
  unique_bytes: number;
  /** Of `unique_bytes`, what is there only so that merges can be undone; absent where nothing is. */
  kept_original_bytes?: number;
  blocks: BlockSharing[];
}

export interface BlockSharing {
  kind: BlockKind;
  layer: number | null;
  digest: Digest;
  bytes: number;
  /** Other models with the very same block. */
  shared_with: string[];
  /** What the model adds to the block's projections, where it adds something. */
  adapter?: ChainEntry["adapter"];
  /** The model's own block, where this one was merged into its place, and what was measured then. */
  replaces?: ChainEntry["replaces"];
  /** Of the tensors' bytes, those that another model stores too: blocks that differ may differ in one norm only. */
  shared_tensor_bytes: number;
  /** What keeping tensors as lossless differences to a base's takes off the disk; absent where none is kept so. */
  residual_saved_bytes?: number;
}

/** Compares the named models, or all, by digest alone. Changes nothing. */
export async function reportSharing(repository: Repository, names?: string[]): Promise<SharingReport> {
  const models = await readModels(repository, names);
  const accounts = await countStorage(repository, models);
  const perModel = await describeModels(repository, models, { all: models, accounts });

  const stored_bytes = accounts.stored;
  const logical_bytes = sum(perModel.map((model) => model.bytes));
  const chained = models.flatMap(({ document }) => document.chain.map((link) => originalEntry(link).digest));
  return {
    models: models.length,
    blocks: chained.length,
    logical_bytes,
    stored_bytes,
    ratio: stored_bytes === 0 ? 1 : logical_bytes / stored_bytes,
    tiers: {
      exact: { blocks: chained.length - new Set(chained).size, saved_bytes: logical_bytes - accounts.distinct },
      lowrank: accounts.merges.lowrank,
      residual: accounts.residual,
      equivalent: accounts.merges.equivalent,
    },
    kept_original_bytes: accounts.kept_originals,
    pairs: [...pairEqualBlocks(models), ...pairMergedBlocks(models)],
    first_divergence: compareChains(models, accounts.running),
    per_model: perModel,
  };
}

/** How each of some models shares with all. Throws `model_not_found`. */
export async function sharingOf(repository: Repository, names: string[]): Promise<ModelSharing[]> {
  const all = await readModels(repository);
  const wanted = await readModels(repository, names);
  return await describeModels(repository, wanted, { all, accounts: await countStorage(repository, wanted) });
}

/** The named models, or all. Throws `model_not_found`. */
export async function readModels(repository: Repository, names?: string[]): Promise<StoredModel[]> {
  if (!names) {
    const entries = await repository.listModels();
    return await Promise.all(entries.map((entry) => repository.readModelEntry(entry)));
  }
  const models = await Promise.all(names.map((name) => repository.readModel(name)));
  // Named twice is meant once.
  return [...new Map(models.map((model) => [model.name, model])).values()];
}

/** Bytes and models of every blob. */
type Usage = Map<Digest, { size: number; models: number }>;

/** A tensor that is stored as a residual counts as itself too: two models that rebuild the same one share it. */
function countUsage(models: StoredModel[]): Usage {
  const usage: Usage = new Map();
  for (const model of models) {
    const rebuilt = residualsAmong(model.manifest.layers).map(({ tensor, bytes }) => [tensor, bytes] as const);
    for (const [digest, size] of new Map([...blobsOf(model), ...rebuilt])) {
      const known = usage.get(digest);
      usage.set(digest, { size, models: (known?.models ?? 0) + 1 });
    }
  }
  return usage;
}

async function describeModels(
  repository: Repository,
  models: StoredModel[],
  { all, accounts }: { all: StoredModel[]; accounts: StorageAccounts },
): Promise<ModelSharing[]> {
  const [usage, owners] = [countUsage(all), ownersOf(all)];
  const described: ModelSharing[] = [];
  for (const model of models) described.push(await describeModel(repository, model, { usage, owners, accounts }));
  return described;
}

/** Names of the models that have a block; blocks that the same models have share the list. */
type Owners = Map<Digest, readonly string[]>;

function ownersOf(models: StoredModel[]): Owners {
  const owners = new Map<Digest, string[]>();
  for (const { name, document } of models) {
    for (const digest of new Set(document.chain.map((link) => link.digest))) {
      const names = owners.get(digest);
      if (names) names.push(name);
      else owners.set(digest, [name]);
    }
  }
  const lists = new Map<string, string[]>();
  for (const [digest, names] of owners) {
    const key = names.join("\n");
    const list = lists.get(key) ?? names;
    lists.set(key, list);
    owners.set(digest, list);
  }
  return owners;
}

async function describeModel(
  repository: Repository,
  model: StoredModel,
  { usage, owners, accounts }: { usage: Usage; owners: Owners; accounts: StorageAccounts },
): Promise<ModelSharing> {
  const blobs = [...blobsOf(model)];
  const isShared = (digest: Digest) => (usage.get(digest)?.models ?? 0) > 1;
  const withoutOwn = new Map<readonly string[], string[]>();
  const othersWith = (digest: Digest): string[] => {
    const names = owners.get(digest) ?? [];
    const others = withoutOwn.get(names) ?? names.filter((name) => name !== model.name);
    withoutOwn.set(names, others);
    return others;
  };
  const residuals = new Map(residualsAmong(model.manifest.layers).map((residual) => [residual.tensor, residual]));
  const blocks: BlockSharing[] = [];
  for (const { kind, layer, digest, bytes, adapter, replaces } of model.document.chain) {
    const references = blockReferences(await repository.readBlock(digest));
    const tensors = new Map(
      references
        .filter(({ mediaType }) => mediaType === MEDIA_TYPES.tensor)
        .map((tensor) => [tensor.digest, tensor.size]),
    );
    const sharedTensors = [...tensors].filter(([tensor]) => isShared(tensor));
    const encoded = [...tensors.keys()].flatMap((tensor) => residuals.get(tensor) ?? []);
    blocks.push({
      kind,
      layer,
      digest,
      bytes,
      shared_with: othersWith(digest),
      ...(adapter === undefined ? {} : { adapter }),
      ...(replaces === undefined ? {} : { replaces }),
      shared_tensor_bytes: sum(sharedTensors.map(([, size]) => size)),
      ...(encoded.length > 0 && { residual_saved_bytes: sum(encoded.map((one) => one.bytes - one.blob.size)) }),
    });
  }
  const unique = blobs.filter(([digest]) => !isShared(digest));
  const kept = sum(unique.filter(([digest]) => !accounts.needed.get(model.name)!.has(digest)).map(([, size]) => size));
  return {
    name: model.name,
    digest: model.digest,
    bytes: accounts.logical.get(model.name)!,
    unique_bytes: sum(unique.map(([, size]) => size)),
    ...(kept > 0 && { kept_original_bytes: kept }),
    blocks,
  };
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
