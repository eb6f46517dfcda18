import { type LowRankOptions, mergeLowRank } from "./apply-low-rank.ts";
import type { DifferenceTier } from "./find-differences.ts";
import type { Repository } from "./repository.ts";
import { readModels } from "./sharing.ts";
import { refuseChanged } from "./undo-merges.ts";

export interface ApplyOptions extends LowRankOptions {
  tiers: readonly DifferenceTier[];
}

/** What `dedupe --apply` did. */
export interface AppliedTiers {
  /** Models with a new manifest. */
  models: string[];
  lowrank: { blocks: number };
  /** Named or all, but marked exact only: nothing that changes numbers was done to them. */
  exact_only: string[];
  originals: "kept" | "not kept";
}

/**
 * Keeps blocks of the named models, or of all, as differences to their bases. Every model is changed at once and only
 * while it is what was read (`model_changed`); an interruption leaves garbage.
 */
export async function applyTiers(
  repository: Repository,
  names: string[] | undefined,
  { tiers, ...options }: ApplyOptions,
): Promise<AppliedTiers> {
  const wanted = await readModels(repository, names);
  const applied: AppliedTiers = {
    models: [],
    lowrank: { blocks: 0 },
    exact_only: wanted.filter(({ document }) => document.exactOnly === true).map(({ name }) => name),
    originals: options.keepOriginals ? "kept" : "not kept",
  };
  if (tiers.includes("lowrank")) {
    const swaps = await mergeLowRank(repository, { all: await readModels(repository), wanted }, options);
    const swapped = await repository.swapModels(swaps, options.signal ? { signal: options.signal } : {});
    refuseChanged(swaps.map(({ before }) => before).filter(({ name }) => !swapped.includes(name)));
    applied.models.push(...swapped);
    applied.lowrank.blocks = swaps.reduce(
      (sum, { before, document }) =>
        sum + document.chain.filter((entry, at) => entry !== before.document.chain[at]).length,
      0,
    );
  }
  return applied;
}
