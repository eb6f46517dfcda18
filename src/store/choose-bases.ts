import type { BlockDocument, BlockKind, Digest } from "../blocks/block.ts";
import { nearestSketches } from "../fingerprint/nearest-sketches.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import type { BlobStore } from "./blob-store.ts";
import { hasOwnWeights } from "./mixed-block.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { sampledDistance, sampleWeights } from "./sample-weights.ts";
import { bucketOf, sketchBlocks, type SketchOptions } from "./sketch-blocks.ts";
import type { Sketches } from "./sketch-file.ts";

/** A block of one or more models. */
export interface DistinctBlock {
  digest: Digest;
  kind: BlockKind;
  layer: number | null;
  document: BlockDocument;
  /** Every model that has it at this layer, in the report's order. */
  models: string[];
  /** Some model runs it with factors of its own: it is a base already. */
  isAdapted: boolean;
  /** Made of a base and a model's own weights (mixed-block.ts): no base, since the one it is made of is nearer to all. */
  isMixed: boolean;
}

/** A block that may be kept as its difference to another: to one that is kept whole, so that no chain of differences arises. */
export interface Candidate {
  base: DistinctBlock;
  block: DistinctBlock;
}

/** Blocks whose sketches differ in more bits are not tried; unrelated ones differ in 128 ± 8. */
const MOST_BITS = 96;
/** Of a larger group, those that most models use stand for the base; every other is compared with as many of them. */
const MOST_CONSIDERED = 32;
/** A base with two descendants along one line is, by distance alone, twice as far from all as the middle one. */
const SPREAD = 2.5;
/** Standard deviations by which a difference in weight has to differ from none to say which of two is the base. */
const CLEAR = 3;

/**
 * Which block could be kept as a difference to which. Blocks are grouped by layer, kind and shapes; the base of a group is
 * the one nearest to all others, since fine-tunes lie around what they were tuned from; what is not near it forms a group
 * of its own. Of two, each is as near to the other: then it is the one that is a base already, else the one of less
 * weight, since what training adds is hardly ever turned against what is there, or, where that says nothing, the one that
 * more models have. Where several could be the base, it is the one whose model is the base in most layers, so that the blocks of one model come
 * from one base.
 */
export async function chooseBases(
  repository: Repository,
  models: StoredModel[],
  options: SketchOptions = {},
): Promise<Candidate[]> {
  const groups = [...(await groupBlocks(repository, models)).values()].filter((group) => group.length > 1);
  const digests = groups.flat().map(({ digest }) => digest);
  const sketches = await sketchBlocks(repository, digests, options);
  const candidates: Candidate[] = [];
  const ranked = await rankGroups(repository.blobs, groups);
  const votes = countVotes(ranked);
  while (ranked.length > 0) {
    const { group, nearest } = ranked.pop()!;
    const base = mostVoted(nearest, votes);
    const [near, far] = parted(group, base, sketches);
    candidates.push(...near.map((block) => ({ base, block })));
    if (far.length > 1) ranked.push(...(await rankGroups(repository.blobs, [far])));
  }
  return candidates;
}

async function groupBlocks(repository: Repository, models: StoredModel[]): Promise<Map<string, DistinctBlock[]>> {
  const groups = new Map<string, DistinctBlock[]>();
  for (const { name, document: model } of models) {
    for (const { digest, kind, layer, adapter, replaces } of model.chain) {
      const isMixed = hasOwnWeights(replaces);
      const isAdapted = adapter !== undefined && !isMixed;
      const document = await repository.readBlock(digest);
      const key = `${layer} ${bucketOf(document)}`;
      const group = groups.get(key) ?? [];
      const known = group.find((block) => block.digest === digest);
      if (known) {
        known.models.push(name);
        known.isAdapted ||= isAdapted;
        known.isMixed &&= isMixed;
      } else groups.set(key, [...group, { digest, kind, layer, document, models: [name], isAdapted, isMixed }]);
    }
  }
  return groups;
}

interface RankedGroup {
  group: DistinctBlock[];
  /** Those that could be the base, the likeliest first. */
  nearest: DistinctBlock[];
}

async function rankGroups(blobs: BlobStore, groups: DistinctBlock[][]): Promise<RankedGroup[]> {
  const weights = await comparePairs(blobs, groups);
  const ranked: RankedGroup[] = [];
  for (const group of groups) {
    const [first, second, ...others] = possibleBases(group);
    const isOneOfTwo = second !== undefined && others.length === 0;
    const nearest = isOneOfTwo ? [baseOfTwo(first!, second, weights)] : await central(blobs, possibleBases(group));
    ranked.push({ group, nearest });
  }
  return ranked;
}

/** By model: the layers in which it is the likeliest base. */
function countVotes(ranked: RankedGroup[]): Map<string, number> {
  const votes = new Map<string, number>();
  for (const { nearest } of ranked)
    for (const model of nearest[0]!.models) votes.set(model, (votes.get(model) ?? 0) + 1);
  return votes;
}

function mostVoted(blocks: DistinctBlock[], votes: Map<string, number>): DistinctBlock {
  const votesOf = ({ models }: DistinctBlock) => Math.max(...models.map((model) => votes.get(model) ?? 0));
  return blocks.reduce((best, block) => (votesOf(block) > votesOf(best) ? block : best));
}

/** By the models of both sides, over all layers, so that one model is the base in each. */
type PairWeights = Map<string, PairWeight>;

interface PairWeight {
  /** ‖a‖² − ‖b‖²: −‖Δ‖² where b is a and what was trained, Δ. */
  heavier: number;
  /** Of `heavier` by how Δ happens to lie to a. */
  variance: number;
}

async function comparePairs(blobs: BlobStore, groups: DistinctBlock[][]): Promise<PairWeights> {
  const weights: PairWeights = new Map();
  for (const [a, b, ...others] of groups.map(possibleBases)) {
    if (b === undefined || others.length > 0 || a!.isAdapted !== b.isAdapted) continue;
    const found = comparePair(await sampleWeights(blobs, a!.document), await sampleWeights(blobs, b.document));
    for (const [key, sign] of [
      [sides(a!, b), 1],
      [sides(b, a!), -1],
    ] as const) {
      const { heavier, variance } = weights.get(key) ?? { heavier: 0, variance: 0 };
      weights.set(key, { heavier: heavier + sign * found.heavier, variance: variance + found.variance });
    }
  }
  return weights;
}

function comparePair(a: Float32Array[], b: Float32Array[]): PairWeight {
  let [heavier, variance] = [0, 0];
  for (const [at, values] of a.entries()) {
    for (let i = 0; i < values.length; i++) {
      const [x, y] = [values[i]!, b[at]![i]!];
      const difference = x * x - y * y;
      if (!Number.isFinite(difference)) continue;
      heavier += difference;
      variance += (2 * x * (x - y)) ** 2;
    }
  }
  return { heavier, variance };
}

function possibleBases(group: DistinctBlock[]): DistinctBlock[] {
  const bases = group.filter(({ isMixed }) => !isMixed);
  return bases.length === 0 ? group : bases;
}

function baseOfTwo(a: DistinctBlock, b: DistinctBlock, weights: PairWeights): DistinctBlock {
  if (a.isAdapted !== b.isAdapted) return a.isAdapted ? a : b;
  const { heavier, variance } = weights.get(sides(a, b)) ?? { heavier: 0, variance: 0 };
  const isClear = Math.abs(heavier) > CLEAR * Math.sqrt(variance);
  if (!isClear && a.models.length !== b.models.length) return a.models.length > b.models.length ? a : b;
  return heavier > 0 ? b : a;
}

function sides(a: DistinctBlock, b: DistinctBlock): string {
  return JSON.stringify([a.models, b.models]);
}

/** Those whose distance to all others together is at most `SPREAD` times the least, nearest first. */
async function central(blobs: BlobStore, group: DistinctBlock[]): Promise<DistinctBlock[]> {
  const considered = group.toSorted((a, b) => b.models.length - a.models.length).slice(0, MOST_CONSIDERED);
  const samples: Float32Array[][] = [];
  for (const { document } of considered) samples.push(await sampleWeights(blobs, document));
  const totals = new Map(
    considered.map((block, at) => [
      block,
      samples.reduce((sum, other) => sum + sampledDistance(samples[at]!, other), 0),
    ]),
  );
  const least = Math.min(...totals.values());
  const near = considered.filter((block) => totals.get(block)! <= SPREAD * least);
  return near.toSorted((a, b) => totals.get(a)! - totals.get(b)!);
}

function parted(group: DistinctBlock[], base: DistinctBlock, sketches: Sketches): [DistinctBlock[], DistinctBlock[]] {
  const others = group.filter((block) => block !== base);
  const packed = new Uint32Array(others.length * SKETCH_WORDS);
  for (const [at, { digest }] of others.entries()) packed.set(sketches.get(digest)!, at * SKETCH_WORDS);
  const distances = nearestSketches(packed, sketches.get(base.digest)!, others.length);
  const near = new Set(distances.filter(({ distance }) => distance <= MOST_BITS).map(({ place }) => others[place]!));
  return [others.filter((block) => near.has(block)), others.filter((block) => !near.has(block))];
}
