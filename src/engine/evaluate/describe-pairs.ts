import type { Digest } from "../../blocks/block.ts";
import { compareBlocks } from "../../store/compare-blocks.ts";
import type { Repository, StoredModel } from "../../store/repository.ts";
import type { Merge } from "./choose-merges.ts";
import type { DriftBench } from "./drift-bench.ts";
import type { EquivalentPair, Refusal, RefusedPair } from "./equivalent-report.ts";
import type { MeasuredCouple } from "./measure-couples.ts";

export type Outcome = "merged" | Refusal;

/** Refused couples of a large repository are many, and their weights are read for the report. */
const MOST_REFUSED = 40;

/** The merged couples with what they cost on held-out prompts, and those that were refused. */
export async function describePairs(
  repository: Repository,
  measured: readonly MeasuredCouple[],
  context: {
    bench: DriftBench;
    models: readonly StoredModel[];
    /** In the order they were accepted. */
    merges: readonly Merge[];
    bytes: (merges: readonly Merge[]) => number;
    outcomeOf: (couple: MeasuredCouple) => Outcome;
    signal: AbortSignal | undefined;
  },
): Promise<{ pairs: EquivalentPair[]; refused: RefusedPair[] }> {
  const pairs: EquivalentPair[] = [];
  for (const [at, merge] of context.merges.entries()) {
    const couple = measured.find(({ block, by }) => block === merge.block && by === merge.by)!;
    const before = context.merges.slice(0, at);
    const saved_bytes = context.bytes(before) - context.bytes([...before, merge]);
    pairs.push({
      ...(await describeCouple(repository, couple, context)),
      ...(await heldOutCost(merge, context)),
      saved_bytes,
    });
  }
  const refused: RefusedPair[] = [];
  for (const couple of measured.toSorted((a, b) => a.share_of_budget - b.share_of_budget)) {
    const reason = context.outcomeOf(couple);
    if (reason === "merged" || refused.length === MOST_REFUSED) continue;
    refused.push({ ...(await describeCouple(repository, couple, context)), reason });
  }
  return { pairs, refused };
}

async function describeCouple(
  repository: Repository,
  { block, by, kind, layer, saved_bytes, output_cosine, drift }: MeasuredCouple,
  { models, signal }: { models: readonly StoredModel[]; signal: AbortSignal | undefined },
): Promise<EquivalentPair> {
  const documents = { a: await repository.readBlock(by), b: await repository.readBlock(block) };
  const { weight_cosine, relative_delta } = await compareBlocks(repository.blobs, documents, signal);
  const owners = namesWith(block, models);
  return {
    a: namesWith(by, models)[0]!,
    b: owners[0]!,
    kind,
    layer,
    tier: "equivalent",
    block,
    by,
    weight_cosine,
    relative_delta,
    saved_bytes,
    output_cosine,
    kl: drift.kl,
    top1: drift.top1,
    models: owners,
  };
}

async function heldOutCost(merge: Merge, { bench }: { bench: DriftBench }): Promise<{ kl: number; top1: number }> {
  let [kl, top1] = [0, 1];
  for (const model of bench.changedBy([merge], merge)) {
    const drift = await bench.drift(model, [merge], { part: "heldOut" });
    kl = Math.max(kl, drift.kl);
    top1 = Math.min(top1, drift.top1);
  }
  return { kl, top1 };
}

function namesWith(block: Digest, models: readonly StoredModel[]): string[] {
  return models.filter(({ document }) => document.chain.some(({ digest }) => digest === block)).map(({ name }) => name);
}
