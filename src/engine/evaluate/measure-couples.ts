import type { Replacement } from "../../store/find-replacements.ts";
import type { Merge, RankedMerge } from "./choose-merges.ts";
import { type Drift, type DriftBudget, isWithin, shareOfBudget } from "./drift.ts";
import type { DriftBench } from "./drift-bench.ts";

/** Two blocks whose outputs were compared. */
export interface AlikeCouple extends Replacement {
  output_cosine: number;
}

/** Two blocks of which one ran in the place of the other through the rest of every model that has it. */
export interface MeasuredCouple extends AlikeCouple, RankedMerge {
  /** In the model where it takes most of the budget; not exact beyond the budget. */
  drift: Drift;
}

/** For one block, those with the most equal outputs. */
const MOST_MEASURED = 4;

export async function screenOutputs(
  bench: DriftBench,
  replacements: readonly Replacement[],
  { threshold, onProgress }: { threshold: number; onProgress?: ((text: string) => void) | undefined },
): Promise<AlikeCouple[]> {
  const alike = new Map<string, AlikeCouple[]>();
  for (const [at, replacement] of replacements.entries()) {
    onProgress?.(`comparing outputs of blocks, couple ${at + 1} of ${replacements.length}`);
    const output_cosine = await bench.outputCosine(replacement, threshold);
    if (!(output_cosine >= threshold)) continue;
    alike.set(replacement.block, [...(alike.get(replacement.block) ?? []), { ...replacement, output_cosine }]);
  }
  return [...alike.values()].flatMap((couples) =>
    couples.toSorted((a, b) => b.output_cosine - a.output_cosine).slice(0, MOST_MEASURED),
  );
}

/** Each couple alone. What would save nothing is left out. */
export async function measureAlone(
  bench: DriftBench,
  couples: readonly AlikeCouple[],
  {
    budget,
    bytes,
    onProgress,
  }: {
    budget: DriftBudget;
    bytes: (merges: readonly Merge[]) => number;
    onProgress?: ((text: string) => void) | undefined;
  },
): Promise<MeasuredCouple[]> {
  const measured: MeasuredCouple[] = [];
  for (const [at, couple] of couples.entries()) {
    onProgress?.(`running models with one block swapped, couple ${at + 1} of ${couples.length}`);
    const merge = { block: couple.block, by: couple.by };
    const saved_bytes = bytes([]) - bytes([merge]);
    if (saved_bytes <= 0) continue;
    const drift = await worstDrift(bench, merge, budget);
    const changed_models = bench.changedBy([merge], merge).length;
    measured.push({ ...couple, saved_bytes, drift, changed_models, share_of_budget: shareOfBudget(drift, budget) });
  }
  return measured;
}

/** The first model that is beyond the budget decides. */
async function worstDrift(bench: DriftBench, merge: Merge, budget: DriftBudget): Promise<Drift> {
  let worst: Drift | undefined;
  for (const model of bench.changedBy([merge], merge)) {
    const drift = await bench.drift(model, [merge], { part: "choosing", budget });
    if (!isWithin(drift, budget)) return drift;
    if (!worst || shareOfBudget(drift, budget) > shareOfBudget(worst, budget)) worst = drift;
  }
  if (!worst) throw new Error("A merge that changes no model saves nothing");
  return worst;
}
