import type { Digest } from "../../blocks/block.ts";
import { findReplacements } from "../../store/find-replacements.ts";
import { restoredChain } from "../../store/merged-chain.ts";
import type { Repository, StoredModel } from "../../store/repository.ts";
import { engineConfig } from "../engine-config.ts";
import { verifyBlobs } from "../verify-blobs.ts";
import { resolveBlocks } from "./chain-stretch.ts";
import { chooseMerges, confirmMerges, type Merge } from "./choose-merges.ts";
import { checkModelNames, chooseModels } from "./choose-models.ts";
import { countBytes } from "./count-bytes.ts";
import { describePairs, type Outcome } from "./describe-pairs.ts";
import { type DriftBudget, hasLimit, isWithin } from "./drift.ts";
import { DriftBench, type TriedModel } from "./drift-bench.ts";
import type { EquivalentReport, ModelDrift } from "./equivalent-report.ts";
import { measureAlone, type MeasuredCouple, screenOutputs } from "./measure-couples.ts";
import { prepareModel } from "./measured-model.ts";
import { PartSessions } from "./part-sessions.ts";
import type { Calibration } from "./read-calibration.ts";
import { runsKey, swapBlocks } from "./swapped-chain.ts";

export interface EquivalentOptions {
  calibration: Calibration;
  /** Without a limit everything is measured and nothing merged. */
  budget: DriftBudget;
  /** Couples whose outputs have a smaller mean cosine are measured no further. */
  threshold: number;
  signal?: AbortSignal | undefined;
  onProgress?: ((text: string) => void) | undefined;
}

export interface EquivalentFindings {
  report: EquivalentReport;
  /** In the order they were accepted. */
  merges: Merge[];
}

/**
 * Which blocks could give way to others, and at what cost: outputs for the same rows first, then probabilities through the
 * rest of each model, then all merges together, always against the models as split. Changes nothing, and gives the same
 * every time. Errors: `usage` for calibration that does not fit; blob_missing, blob_corrupt; as SessionPool.load.
 */
export async function findEquivalent(
  repository: Repository,
  models: readonly StoredModel[],
  options: EquivalentOptions,
): Promise<EquivalentFindings> {
  const { calibration, signal, onProgress } = options;
  checkModelNames(calibration, new Set((await repository.listModels()).map(({ name }) => name)));
  const { askable, leftOut } = await chooseModels(repository, models, calibration);
  const sessions = new PartSessions(repository, engineConfig().threads);
  try {
    await verifyWeights(repository, models, signal);
    const tried: TriedModel[] = [];
    for (const model of askable) {
      onProgress?.(`asking ${model.name}, model ${tried.length + 1} of ${askable.length}`);
      const { lines, current, repeated } = model;
      tried.push({ ...(await prepareModel(sessions, model, { lines, signal })), current, repeated });
    }
    const bench = new DriftBench(tried, sessions, signal);
    const { report, merges } = await search(repository, { models, bench }, options);
    return { report: { ...report, left_out: leftOut }, merges };
  } finally {
    await sessions.close();
  }
}

async function search(
  repository: Repository,
  { models, bench }: { models: readonly StoredModel[]; bench: DriftBench },
  { calibration, budget, threshold, signal, onProgress }: EquivalentOptions,
): Promise<{ report: Omit<EquivalentReport, "left_out">; merges: Merge[] }> {
  const bytes = await countBytes(repository, models);
  const replacements = await findReplacements(
    repository,
    models.map(({ document }) => document),
    signal ? { signal } : {},
  );
  const possible = replacements.filter(({ block }) => isFree(block, models, bench));
  const alike = await screenOutputs(bench, possible, { threshold, onProgress });
  const measured = await measureAlone(bench, alike, { budget, bytes, onProgress });

  const within = measured.filter(({ drift }) => hasLimit(budget) && isWithin(drift, budget));
  const chosen = await chooseMerges(within, {
    bytes,
    holds: async (merges, latest) => {
      onProgress?.(`trying ${merges.length} merges together`);
      for (const model of bench.changedBy(merges, latest))
        if (!isWithin(await bench.drift(model, merges, { part: "choosing", budget }), budget)) return false;
      return true;
    },
  });
  const { merges, taken_back } = await confirmMerges<TriedModel>(chosen.merges, {
    failing: async (all) => {
      onProgress?.(`confirming ${all.length} merges on held-out prompts`);
      for (const model of bench.changedBy(all))
        if (!isWithin(await bench.drift(model, all, { part: "heldOut", budget }), budget)) return model;
      return null;
    },
    touches: (all, merge, model) => bench.changedBy(all, merge).includes(model),
  });

  const outcomeOf = (couple: MeasuredCouple): Outcome => {
    const has = (list: readonly Merge[]): boolean =>
      list.some(({ block, by }) => block === couple.block && by === couple.by);
    if (has(merges)) return "merged";
    if (!hasLimit(budget)) return "no budget";
    if (!within.includes(couple)) return "alone beyond the budget";
    if (has(chosen.together_refused)) return "beyond the budget together";
    return has(taken_back) ? "beyond the budget on held-out prompts" : "nothing left to save";
  };
  onProgress?.("comparing with the models as split");
  const context = { bench, models, bytes, merges, outcomeOf, signal };
  const { pairs, refused } = await describePairs(repository, measured, context);
  const report = {
    calibration: { digest: calibration.digest, lines: calibration.lines.length },
    budget: { ...budget, threshold },
    compared: possible.length,
    measured: measured.length,
    pairs,
    refused,
    models: await describeModels(bench, merges),
    tier: { blocks: merges.length, saved_bytes: bytes([]) - bytes(merges) },
  };
  return { report, merges };
}

/** A block can give way only where every model that has it may be changed: else it would have to stay, and save nothing. */
function isFree(block: Digest, models: readonly StoredModel[], bench: DriftBench): boolean {
  const changeable = new Set(bench.models.map(({ name }) => name));
  const owners = models.filter(({ document }) => document.chain.some(({ digest }) => digest === block));
  return owners.every(({ name }) => changeable.has(name));
}

/** ONNX Runtime maps the files and would compute with whatever they hold. */
async function verifyWeights(
  repository: Repository,
  models: readonly StoredModel[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const chains = [];
  for (const { name, document } of models.filter((model) => !model.document.opaque)) {
    for (const chain of [document.chain, restoredChain(document.chain)])
      chains.push((await resolveBlocks(repository, { name, document: { ...document, chain } })).chain);
  }
  await verifyBlobs(repository, chains, signal);
}

async function describeModels(bench: DriftBench, merges: readonly Merge[]): Promise<ModelDrift[]> {
  const described: ModelDrift[] = [];
  for (const model of bench.models) {
    const chain = swapBlocks(model.current.chain, merges);
    described.push({
      model: model.name,
      repeated_prompts: model.repeated,
      merged_blocks: chain.filter((entry, at) => runsKey(entry) !== runsKey(model.document.chain[at]!)).length,
      choosing: await bench.drift(model, merges, { part: "choosing" }),
      held_out: await bench.drift(model, merges, { part: "heldOut" }),
      accuracy: await bench.accuracy(model, merges),
    });
  }
  return described;
}
