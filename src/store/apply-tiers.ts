import { type LowRankOptions, mergeLowRank } from "./apply-low-rank.ts";
import type { DifferenceTier } from "./find-differences.ts";
import { encodeResiduals } from "./apply-residual.ts";
import type { ChainEntry } from "./model-document.ts";
import type { ModelSwap, Repository, StoredModel } from "./repository.ts";
import { readModels } from "./sharing.ts";
import { refuseChanged } from "./undo-merges.ts";
import { findZstd, ZSTD_MISSING } from "./zstd.ts";

export interface ApplyOptions extends LowRankOptions {
  tiers: readonly DifferenceTier[];
}

/** What `dedupe --apply` did. */
export interface AppliedTiers {
  /** Models with a new manifest. */
  models: string[];
  lowrank: {
    blocks: number;
    /** Base and factors against the exact weights, of a projection's norm; absent where none were made. */
    largest_relative_error?: number;
  };
  /** `unavailable`: why none were made, and what to do about it. */
  residual: { tensors: number; unavailable?: string };
  /** Named or all, but marked exact only: nothing that changes numbers was done to them. */
  exact_only: string[];
  originals: "kept" | "not kept";
}

/**
 * Keeps blocks of the named models, or of all, as differences to their bases. For each tier every model is changed at once
 * and only while it is what was read (`model_changed`); an interruption leaves garbage.
 */
export async function applyTiers(
  repository: Repository,
  names: string[] | undefined,
  { tiers, ...options }: ApplyOptions,
): Promise<AppliedTiers> {
  const read = async () => ({ all: await readModels(repository), wanted: await readModels(repository, names) });
  const changed = new Set<string>();
  const swap = async (swaps: (ModelSwap & { before: StoredModel })[]) => {
    const swapped = await repository.swapModels(swaps, options.signal ? { signal: options.signal } : {});
    refuseChanged(swaps.map(({ before }) => before).filter(({ name }) => !swapped.includes(name)));
    for (const name of swapped) changed.add(name);
  };
  let merged: ChainEntry[] = [];
  if (tiers.includes("lowrank")) {
    const swaps = await mergeLowRank(repository, await read(), options);
    await swap(swaps);
    merged = swaps.flatMap(({ before, document }) =>
      document.chain.filter((entry, at) => entry !== before.document.chain[at]),
    );
  }
  const zstd = findZstd();
  let tensors = 0;
  // After low rank: what is replaced is worth a difference only where it is kept.
  if (tiers.includes("residual") && zstd !== null) {
    const known = await repository.residuals();
    await swap(await encodeResiduals(repository, await read(), { ...options, zstd }));
    tensors = (await repository.residuals()).size - known.size;
  }
  const { wanted } = await read();
  return {
    models: [...changed].toSorted(),
    lowrank: { blocks: merged.length, ...largestError(merged) },
    residual: { tensors, ...(tiers.includes("residual") && zstd === null ? { unavailable: ZSTD_MISSING } : {}) },
    exact_only: wanted.filter(({ document }) => document.exactOnly === true).map(({ name }) => name),
    originals: options.keepOriginals ? "kept" : "not kept",
  };
}

function largestError(merged: ChainEntry[]): Pick<AppliedTiers["lowrank"], "largest_relative_error"> {
  const errors = merged.map(({ replaces }) => Number(replaces?.evidence["relative_error"]));
  return errors.length === 0 ? {} : { largest_relative_error: Math.max(...errors) };
}
