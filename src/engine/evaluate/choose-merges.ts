import type { Digest } from "../../blocks/block.ts";

/** `by` runs wherever `block` ran. */
export interface Merge {
  block: Digest;
  by: Digest;
}

/** A merge that is within the budget by itself. */
export interface RankedMerge extends Merge {
  /** Bytes that it alone saves. */
  saved_bytes: number;
  /** How much of the budget it takes where it takes most. */
  share_of_budget: number;
  /** Models whose numbers it changes. */
  changed_models: number;
}

export interface MergeTrial {
  /** Bytes of all models with these merges together, every blob once. */
  bytes(merges: readonly Merge[]): number;
  /** Is every model within the budget with all of these merges? `latest` is the one it was not yet asked about. */
  holds(merges: readonly Merge[], latest: Merge): Promise<boolean>;
}

export interface ChosenMerges {
  /** In the order in which they were accepted. */
  merges: Merge[];
  /** Within the budget alone, and not together with the ones accepted before. */
  together_refused: Merge[];
}

/** Most bytes for the least of the budget of the fewest models first; each is tried on top of all accepted before, and taken back if it breaks. */
export async function chooseMerges(ranked: readonly RankedMerge[], trial: MergeTrial): Promise<ChosenMerges> {
  const merges: Merge[] = [];
  const refused: Merge[] = [];
  for (const { block, by } of ranked.toSorted(byWorth)) {
    // What it replaces, or what it would put there, is not in use any more.
    if (merges.some((merge) => merge.block === block || merge.block === by)) continue;
    const merge = { block, by };
    if (trial.bytes([...merges, merge]) >= trial.bytes(merges)) continue;
    if (await trial.holds([...merges, merge], merge)) merges.push(merge);
    else refused.push(merge);
  }
  return { merges, together_refused: refused };
}

/**
 * What is left when others look: from the last accepted on, merges are taken back that touch a model which is not within
 * the budget. `failing` names such a model; `touches` says whether a merge changes it.
 */
export async function confirmMerges<Model>(
  chosen: readonly Merge[],
  {
    failing,
    touches,
  }: {
    failing: (merges: readonly Merge[]) => Promise<Model | null>;
    touches: (merges: readonly Merge[], merge: Merge, model: Model) => boolean;
  },
): Promise<{ merges: Merge[]; taken_back: Merge[] }> {
  let merges = [...chosen];
  const takenBack: Merge[] = [];
  for (;;) {
    const model = await failing(merges);
    if (model === null) return { merges, taken_back: takenBack };
    const last = merges.findLast((merge) => touches(merges, merge, model));
    if (last === undefined) throw new Error("A model without merges drifts from itself");
    takenBack.push(last);
    merges = merges.filter((merge) => merge !== last);
  }
}

/** The block that runs where `digest` ran, after all merges. */
export function afterMerges(digest: Digest, merges: readonly Merge[]): Digest {
  const replaced = new Map(merges.map(({ block, by }) => [block, by]));
  let current = digest;
  for (let next = replaced.get(current); next !== undefined; next = replaced.get(current)) current = next;
  return current;
}

function byWorth(a: RankedMerge, b: RankedMerge): number {
  const worth = ({ saved_bytes, share_of_budget, changed_models }: RankedMerge): number =>
    saved_bytes / (share_of_budget + 1e-3) / changed_models;
  return worth(b) - worth(a) || b.saved_bytes - a.saved_bytes || (a.block + a.by < b.block + b.by ? -1 : 1);
}
