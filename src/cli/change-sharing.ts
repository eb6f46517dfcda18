import { resolveChain } from "../chain/resolve-chain.ts";
import { type ServingBytes, servingBytes } from "../chain/serving-bytes.ts";
import { applyTiers } from "../store/apply-tiers.ts";
import type { DifferenceTier } from "../store/find-differences.ts";
import type { Repository } from "../store/repository.ts";
import { reportSharing, type SharingReport } from "../store/sharing.ts";
import { markExactOnly, undoMerges, undoResiduals } from "../store/undo-merges.ts";
import { BlockllmError } from "../support/errors.ts";
import type { CommandContext } from "./context.ts";
import type { EquivalentSearch } from "./equivalent-tier.ts";
import type { AppliedReport, BeforeAfter, UndoneReport } from "./output/applied.ts";

export interface ChangeOptions {
  apply?: boolean;
  undo?: boolean;
  exactOnly?: boolean;
  keepOriginals?: boolean;
  /** As named by `--tiers`; undefined: none were named. */
  tiers?: readonly SoughtTier[];
}

/** What `--tiers` may name beside `exact`. */
export type SoughtTier = DifferenceTier | "equivalent";

type Context = Pick<CommandContext, "signal" | "progress"> & { equivalent: EquivalentSearch };

/** What `dedupe` did to the repository before it reports. */
export interface SharingChange {
  applied?: AppliedReport;
  undone?: UndoneReport;
  exact_only?: { models: string[]; marked: boolean };
}

/** At most one of apply, undo and the mark at a time. Errors: usage, model_changed, original_not_kept. */
export async function changeSharing(
  repository: Repository,
  names: string[],
  options: ChangeOptions & Context,
): Promise<SharingChange> {
  refuseSeveral(options);
  const { signal } = options;
  const wanted = names.length === 0 ? undefined : names;
  if (options.undo === true) return { undone: await goBack(repository, wanted, options) };
  if (options.exactOnly !== undefined) {
    if (wanted === undefined) {
      const flag = options.exactOnly ? "--exact-only" : "--no-exact-only";
      throw new BlockllmError("usage", `${flag} is for models that are named`, {
        hint: `blockllm dedupe <models> ${flag}`,
      });
    }
    const models = await markExactOnly(repository, wanted, { exactOnly: options.exactOnly, signal });
    return { exact_only: { models, marked: options.exactOnly } };
  }
  return options.apply === true ? { applied: await apply(repository, wanted, options) } : {};
}

/** Residuals change no number, so they are taken back only where they are named. */
async function goBack(
  repository: Repository,
  names: string[] | undefined,
  { tiers, signal }: ChangeOptions & Pick<CommandContext, "signal">,
): Promise<UndoneReport> {
  const merges = tiers?.filter((tier) => tier !== "residual");
  const undone =
    merges?.length === 0
      ? { models: [] }
      : await undoMerges(repository, names, { signal, ...(merges && { tiers: merges }) });
  if (!tiers?.includes("residual")) return undone;
  return { ...undone, whole_again: await undoResiduals(repository, names, { signal }) };
}

/** Low rank is not exact, so it is applied only where it is named. */
async function apply(
  repository: Repository,
  names: string[] | undefined,
  { tiers = ["residual"], keepOriginals = true, equivalent, signal, progress }: ChangeOptions & Context,
): Promise<AppliedReport> {
  const before = await measure(repository, names);
  progress.start("comparing blocks");
  const applied = await applyTiers(repository, names, {
    tiers: tiers.filter((tier) => tier !== "equivalent"),
    keepOriginals,
    signal,
    onProgress: ({ blocks, totalBlocks }) => progress.update(`sketched block ${blocks} of ${totalBlocks}`),
    onCompare: ({ blocks, totalBlocks }) => progress.update(`comparing block ${blocks + 1} of ${totalBlocks}`),
  });
  // Last: a block that could be kept as exact factors should not give way to one that is only alike.
  const merged = await equivalent.apply({ keepOriginals });
  const models = [...new Set([...applied.models, ...merged])];
  progress.succeed(`changed ${models.length} models`);
  const { findings } = await equivalent.find();
  return {
    ...applied,
    models,
    equivalent: { blocks: findings?.merges.length ?? 0 },
    before,
    after: await measure(repository, names),
  };
}

async function measure(repository: Repository, names: string[] | undefined): Promise<BeforeAfter> {
  const report = await reportSharing(repository, names);
  return { stored_bytes: report.stored_bytes, memory_bytes: (await servingOf(repository, report)).shared_bytes };
}

/** What serving the models of a report takes. */
export async function servingOf(
  repository: Repository,
  { per_model }: Pick<SharingReport, "per_model">,
): Promise<ServingBytes> {
  const chains = [];
  for (const { name } of per_model) chains.push(await resolveChain(repository, name));
  return await servingBytes(chains, repository);
}

function refuseSeveral({ apply: applies, undo, exactOnly }: ChangeOptions): void {
  const asked = [
    ...(applies === true ? ["--apply"] : []),
    ...(undo === true ? ["--undo"] : []),
    ...(exactOnly === undefined ? [] : [exactOnly ? "--exact-only" : "--no-exact-only"]),
  ];
  if (asked.length > 1) throw new BlockllmError("usage", `${asked.join(" and ")} are both given; it can be one`);
}
