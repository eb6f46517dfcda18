import type { BlockKind, Digest } from "../blocks/block.ts";
import type { Candidate } from "./choose-bases.ts";
import {
  type DifferenceOptions,
  type DifferenceTier,
  findDifferences,
  type FoundDifference,
  residualRatio,
} from "./find-differences.ts";
import { type BlockDifference, isFactored, type TensorDifference } from "./measure-difference.ts";
import type { Repository, StoredModel } from "./repository.ts";
import type { Residuals } from "./stored-residual.ts";
import { blockTensors } from "./sketch-blocks.ts";
import { readModels, reportSharing, type SharingReport, type Tier } from "./sharing.ts";
import type { Pair } from "./sharing-pairs.ts";
import { findZstd, ZSTD_MISSING } from "./zstd.ts";

/** Blocks that could be kept as a difference to another, and what that would save: a report, nothing is rewritten. */
export interface DifferenceReport {
  tiers: Record<DifferenceTier, DifferenceTotals>;
  pairs: DifferentPair[];
  too_large: LargeTensor[];
}

/** A tensor that differs from its base's and is too large for a rank or a residual to be looked for. */
export interface LargeTensor {
  model: string;
  kind: BlockKind;
  layer: number | null;
  name: string;
  bytes: number;
}

export interface DifferenceTotals {
  blocks: number;
  saved_bytes: number;
  /** Why nothing could be measured, and what to do about it. */
  unavailable?: string;
}

/** `b`'s block as a difference to `a`'s. */
export interface DifferentPair {
  a: string;
  b: string;
  kind: BlockKind;
  layer: number | null;
  tier: DifferenceTier;
  weight_cosine: number;
  /** ‖b − a‖ / ‖a‖ over the block. */
  relative_delta: number;
  saved_bytes: number;
  /** Where all that differs has one, or, of tier low rank, most: the largest of its tensors. A table's is not applied. */
  rank?: number;
  /** Low rank only: base + factors against the exact weights; the largest of its tensors. */
  residual_error?: { max_abs: number; relative: number };
  /** Exact bytes / encoded bytes of the tensors that differ; where residuals were measured. */
  residual_ratio?: number;
  tensors: DifferentTensor[];
}

export interface DifferentTensor {
  name: string;
  dims: number[];
  weight_cosine: number;
  relative_delta: number;
  rank: number | null;
  /** σ of the rank / σ of the next. */
  cliff: number | null;
  residual_ratio: number | null;
}

/** What `dedupe` reports: what is shared, and what differences to a base would save beyond that. */
export interface TieredReport extends Omit<SharingReport, "pairs" | "tiers"> {
  /** What was done and what could be. */
  tiers: Record<"exact" | "equivalent", Tier> & DifferenceReport["tiers"];
  /** What was done. */
  done: Record<DifferenceTier, Tier>;
  pairs: (Pair | DifferentPair)[];
  too_large: LargeTensor[];
  /** Bytes of all models together if every block of the tiers were kept as its difference. */
  reachable_bytes: number;
  /** logical / reachable. */
  reachable_ratio: number;
}

export interface TierOptions extends DifferenceOptions {
  /** A model as merges would leave it that are reported elsewhere: differences are looked for in what is left. */
  asMerged?: (model: StoredModel) => StoredModel;
}

/** The named models, or all: equal blocks by digest, and the asked-for tiers measured. Keeps sketches, changes nothing else. */
export async function reportTiers(
  repository: Repository,
  names: string[] | undefined,
  options: TierOptions,
): Promise<TieredReport> {
  const sharing = await reportSharing(repository, names);
  const models = (await readModels(repository, names)).map(options.asMerged ?? ((model) => model));
  const differences = await reportDifferences(repository, models, options);
  const { lowrank, residual } = differences.tiers;
  const reachable = sharing.stored_bytes - lowrank.saved_bytes - residual.saved_bytes;
  return {
    ...sharing,
    tiers: {
      ...sharing.tiers,
      lowrank: together(sharing.tiers.lowrank, lowrank),
      residual: together(sharing.tiers.residual, residual),
    },
    done: { lowrank: sharing.tiers.lowrank, residual: sharing.tiers.residual },
    pairs: [...sharing.pairs, ...differences.pairs],
    too_large: differences.too_large,
    reachable_bytes: reachable,
    reachable_ratio: reachable === 0 ? 1 : sharing.logical_bytes / reachable,
  };
}

async function reportDifferences(
  repository: Repository,
  models: StoredModel[],
  options: DifferenceOptions,
): Promise<DifferenceReport> {
  const totals: DifferenceReport["tiers"] = {
    lowrank: { blocks: 0, saved_bytes: 0 },
    residual: { blocks: 0, saved_bytes: 0 },
  };
  if (options.tiers.includes("residual") && findZstd() === null) totals.residual.unavailable = ZSTD_MISSING;
  const found: FoundDifference[] = [];
  const tooLarge: LargeTensor[] = [];
  const onTooLarge: DifferenceOptions["onTooLarge"] = ({ block: { models: owners, kind, layer } }, { name, bytes }) =>
    tooLarge.push({ model: owners[0]!, kind, layer, name, bytes });
  for await (const one of findDifferences(repository, models, { ...options, onTooLarge }))
    found.push(withoutFactors(one));

  const residuals = await repository.residuals();
  const kept = await keptTensors(repository, models, new Set(found.map(({ candidate }) => candidate.block.digest)));
  const factored = new Set<Digest>();
  // A tensor that some block keeps as a residual stays, even where another one would have factors in its place.
  const pairs = found.toSorted(residualsFirst).flatMap(({ candidate, difference, tier }) => {
    const saved = savedBytes(difference, tier, { kept, factored, residuals });
    // Its tensors are stored for other blocks anyway: nothing would be gained by rebuilding them here. Factors save memory.
    if (saved === 0 && tier === "residual") return [];
    totals[tier].blocks++;
    totals[tier].saved_bytes += saved;
    return describePair(candidate, difference, { tier, saved_bytes: saved });
  });
  return { tiers: totals, pairs: pairs.toSorted(byPlace), too_large: tooLarge };
}

function together(applied: Tier, possible: DifferenceTotals): DifferenceTotals {
  return {
    ...possible,
    blocks: applied.blocks + possible.blocks,
    saved_bytes: applied.saved_bytes + possible.saved_bytes,
  };
}

/** Factors of all blocks together would be as large as a model. */
function withoutFactors({ difference, ...found }: FoundDifference): FoundDifference {
  const none = { rows: 0, columns: 0, values: new Float32Array() };
  const tensors = difference.tensors.map((tensor) => ({
    ...tensor,
    low_rank: tensor.low_rank && { ...tensor.low_rank, left: none, right: none },
  }));
  return { ...found, difference: { ...difference, tensors } };
}

/** Tensors that some block needs whole, whatever becomes of the replaced ones: those save nothing. */
async function keptTensors(repository: Repository, models: StoredModel[], replaced: Set<Digest>): Promise<Set<Digest>> {
  const kept = new Set<Digest>();
  for (const { digest } of models.flatMap(({ document }) => document.chain)) {
    if (replaced.has(digest)) continue;
    for (const tensor of blockTensors(await repository.readBlock(digest))) kept.add(tensor.digest);
  }
  return kept;
}

function residualsFirst(a: FoundDifference, b: FoundDifference): number {
  return Number(a.tier === "lowrank") - Number(b.tier === "lowrank");
}

/** Counts each tensor, and the factors of each, once: what is counted is added to `kept` and to `factored`. */
function savedBytes(
  { tensors }: BlockDifference,
  tier: DifferenceTier,
  { kept, factored, residuals }: { kept: Set<Digest>; factored: Set<Digest>; residuals: Residuals },
): number {
  let saved = 0;
  for (const difference of tensors) {
    const { tensor, low_rank, residual_bytes } = difference;
    if (tier === "lowrank") {
      if (!isFactored(difference)) continue;
      if (!factored.has(tensor.digest)) saved -= low_rank!.bytes;
      factored.add(tensor.digest);
    }
    if (kept.has(tensor.digest)) continue;
    kept.add(tensor.digest);
    const stored = residuals.get(tensor.digest)?.blob.size;
    const left = tier === "lowrank" ? 0 : (stored ?? residual_bytes ?? tensor.bytes);
    saved += Math.max(0, (stored ?? tensor.bytes) - left);
  }
  return saved;
}

function describePair(
  { base, block }: Candidate,
  { weight_cosine, relative_delta, tensors }: BlockDifference,
  { tier, saved_bytes }: { tier: DifferenceTier; saved_bytes: number },
): DifferentPair {
  const lowRanks = tensors.filter(isFactored).map(({ low_rank }) => low_rank!);
  const ranks = tensors.flatMap(({ low_rank }) => (low_rank?.error.is_rounding === true ? [low_rank.rank] : []));
  const ratio = residualRatio(tensors);
  return {
    a: base.models[0]!,
    b: block.models[0]!,
    kind: block.kind,
    layer: block.layer,
    tier,
    weight_cosine,
    relative_delta,
    saved_bytes,
    ...((tier === "lowrank" || ranks.length === tensors.length) && { rank: Math.max(...ranks) }),
    ...(tier === "lowrank" && {
      residual_error: {
        max_abs: Math.max(...lowRanks.map(({ error }) => error.max_abs)),
        relative: Math.max(...lowRanks.map(({ error }) => error.relative)),
      },
    }),
    ...(ratio !== null && { residual_ratio: ratio }),
    tensors: tensors.map(describeTensor),
  };
}

function describeTensor(difference: TensorDifference): DifferentTensor {
  const { name, tensor, weight_cosine, relative_delta, low_rank } = difference;
  return {
    name,
    dims: tensor.dims,
    weight_cosine,
    relative_delta,
    rank: low_rank?.rank ?? null,
    cliff: low_rank?.cliff ?? null,
    residual_ratio: residualRatio([difference]),
  };
}

function byPlace(a: DifferentPair, b: DifferentPair): number {
  return a.b === b.b ? (a.layer ?? -1) - (b.layer ?? -1) : a.b < b.b ? -1 : 1;
}
