import type { Digest } from "../../blocks/block.ts";
import type { ModelSwap, Repository, StoredModel } from "../../store/repository.ts";
import { refuseChanged } from "../../store/undo-merges.ts";
import type { EquivalentFindings } from "./find-equivalent.ts";
import { documentWithMerges } from "./swapped-chain.ts";

/**
 * Writes merges into the models, all at once, with what they were measured to cost. Gives the names of changed models.
 * Throws `model_changed` when another process changed one of them since it was read; the others are written.
 */
export async function mergeModels(
  repository: Repository,
  models: readonly StoredModel[],
  {
    findings,
    keepOriginals,
    signal,
  }: { findings: EquivalentFindings; keepOriginals: boolean; signal?: AbortSignal | undefined },
): Promise<string[]> {
  const { report, merges } = findings;
  const sizes = new Map(models.flatMap(({ document }) => document.chain.map(({ digest, bytes }) => [digest, bytes])));
  const swaps = models.flatMap((before): ModelSwap[] => {
    const measured = report.models.find(({ model }) => model === before.name);
    if (!measured || merges.length === 0) return [];
    const document = documentWithMerges(before.document, merges, {
      bytes: (digest) => sizes.get(digest)!,
      evidence: (from) => evidenceFor(from, { report, measured }),
      keepOriginals,
    });
    const isChanged = document.chain.some((entry, at) => entry !== before.document.chain[at]);
    return isChanged ? [{ before, document }] : [];
  });
  const swapped = await repository.swapModels(swaps, signal ? { signal } : {});
  refuseChanged(swaps.map(({ before }) => before).filter(({ name }) => !swapped.includes(name)));
  return swapped;
}

/** Of the model with all its merges, on held-out prompts; the cosine is the block's own. */
function evidenceFor(
  block: Digest,
  {
    report,
    measured,
  }: { report: EquivalentFindings["report"]; measured: EquivalentFindings["report"]["models"][number] },
): Record<string, number | string> {
  const { held_out, accuracy } = measured;
  const pair = report.pairs.find((one) => one.block === block);
  const { max_kl, min_top1 } = report.budget;
  return {
    kl: held_out.kl,
    kl_answers: held_out.kl_answers,
    kl_worst: held_out.kl_worst,
    top1: held_out.top1,
    prompts: held_out.prompts,
    tokens: held_out.tokens,
    calibration: report.calibration.digest,
    ...(pair === undefined
      ? {}
      : {
          weight_cosine: pair.weight_cosine,
          relative_delta: pair.relative_delta,
          output_cosine: pair.output_cosine,
        }),
    ...(accuracy === null ? {} : { accuracy_before: accuracy.before, accuracy_after: accuracy.after }),
    ...(max_kl === undefined ? {} : { max_kl }),
    ...(min_top1 === undefined ? {} : { min_top1 }),
  };
}
