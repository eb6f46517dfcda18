import { BlockllmError } from "../support/errors.ts";
import { MEDIA_TYPES } from "./descriptor.ts";
import { type MergeTier, restoredChain } from "./merged-chain.ts";
import type { ModelDocument } from "./model-document.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { readModels } from "./sharing.ts";
import { residualsAmong } from "./stored-residual.ts";

export interface Undone {
  models: {
    name: string;
    /** Blocks that run as they were split again. */
    restored: number;
    /** Blocks that stay merged: their originals were not kept. */
    not_kept: number;
  }[];
}

/** Takes back what merges replaced, in the named models or all. Blobs stay until they are collected. */
export async function undoMerges(
  repository: Repository,
  names: string[] | undefined,
  { tiers, signal }: { tiers?: readonly MergeTier[]; signal?: AbortSignal } = {},
): Promise<Undone> {
  const merged = (await readModels(repository, names)).filter(
    ({ document }) => names !== undefined || mergesOf(document) > 0,
  );
  const swaps = merged
    .map((before) => ({ before, document: restored(before.document, tiers) }))
    .filter(({ before, document }) => mergesOf(document) < mergesOf(before.document));
  const swapped = new Set(await repository.swapModels(swaps, signal ? { signal } : {}));
  refuseChanged(swaps.map(({ before }) => before).filter(({ name }) => !swapped.has(name)));
  return {
    models: merged.map(({ name, document }) => ({
      name,
      restored: mergesOf(document) - mergesOf(restored(document, tiers)),
      not_kept: document.chain.filter(({ replaces }) => replaces?.kept === false).length,
    })),
  };
}

/** Stores every tensor of these models, or of all, whole again. Gives the names of models that kept residuals. */
export async function undoResiduals(
  repository: Repository,
  names: string[] | undefined,
  { signal }: { signal?: AbortSignal } = {},
): Promise<string[]> {
  const encoded = (await readModels(repository, names)).filter(
    ({ manifest }) => residualsAmong(manifest.layers).length > 0,
  );
  const tensors = new Set(
    encoded.flatMap(({ manifest }) => residualsAmong(manifest.layers).map(({ tensor }) => tensor)),
  );
  for (const tensor of tensors) {
    signal?.throwIfAborted();
    await repository.blobs.put(await repository.blobs.read(tensor), MEDIA_TYPES.tensor);
  }
  const swaps = encoded.map((before) => ({ before, document: before.document, residuals: new Map() }));
  const swapped = new Set(await repository.swapModels(swaps, signal ? { signal } : {}));
  refuseChanged(encoded.filter(({ name }) => !swapped.has(name)));
  return [...swapped];
}

/**
 * Marks models so that no merge that changes numbers touches them, or lifts the mark. What was merged before is undone
 * first: `original_not_kept` where it cannot be.
 */
export async function markExactOnly(
  repository: Repository,
  names: string[],
  { exactOnly, signal }: { exactOnly: boolean; signal?: AbortSignal },
): Promise<string[]> {
  const swaps = (await readModels(repository, names)).map((before) => {
    const { exactOnly: _, ...document } = before.document;
    if (!exactOnly) return { before, document };
    return { before, document: { ...wholeAgain(before), exactOnly } };
  });
  const swapped = new Set(await repository.swapModels(swaps, signal ? { signal } : {}));
  refuseChanged(swaps.map(({ before }) => before).filter(({ name }) => !swapped.has(name)));
  return [...swapped];
}

function wholeAgain({ name, document }: StoredModel): ModelDocument {
  const whole = restored(document);
  const left = mergesOf(whole);
  if (left === 0) return whole;
  throw new BlockllmError(
    "original_not_kept",
    `${left} of ${name}'s blocks run merged, and what they replaced was not kept`,
    { hint: `split the model again: \`blockllm split <folder> --name ${name} --exact-only\`` },
  );
}

function restored(document: ModelDocument, tiers?: readonly MergeTier[]): ModelDocument {
  return { ...document, chain: restoredChain(document.chain, tiers) };
}

function mergesOf({ chain }: ModelDocument): number {
  return chain.filter(({ replaces }) => replaces !== undefined).length;
}

/** Throws `model_changed` when other processes put other models under these names meanwhile. */
export function refuseChanged(models: Pick<StoredModel, "name">[]): void {
  if (models.length === 0) return;
  const names = models.map(({ name }) => name).join(", ");
  throw new BlockllmError("model_changed", `another process changed ${names} meanwhile; it was left as it is now`, {
    hint: "run the command again",
  });
}
