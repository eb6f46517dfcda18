import type { MatrixProducts } from "../fingerprint/matrix-products.ts";
import { nearestSketches } from "../fingerprint/nearest-sketches.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import type { BlobStore } from "./blob-store.ts";
import { type DistinctBlock, groupBlocks } from "./distinct-blocks.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { sampledDistance, sampleWeights } from "./sample-weights.ts";
import { SampledRanks } from "./sampled-ranks.ts";
import { sketchBlocks, type SketchOptions } from "./sketch-blocks.ts";
import type { Sketches } from "./sketch-file.ts";

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

/** Of those that could be the base of a group, by distance, so many are told apart by ranks. */
const BASES_RANKED = 6;

/**
 * Which block could be kept as a difference to which. Blocks are grouped by layer, kind and shapes; the base of a group is
 * the one nearest to all others, since fine-tunes lie around what they were tuned from; what is not near it forms a group
 * of its own. Of two, each is as near to the other: then it is the one that is a base already, else the one of less
 * weight, since what training adds is hardly ever turned against what is there, or, where that says nothing, the one that
 * more models have. Where several could be the base, it is the one whose model is the base in most layers, so that the blocks of one model come
 * from one base.
 *
 * With `products` ranks decide among those that could be the base, since distance cannot tell one from a copy that was
 * hardly trained; and what is no low rank beside the base, but is beside one another, comes from a base of its own.
 */
export async function chooseBases(
  repository: Repository,
  models: StoredModel[],
  { products = null, ...options }: SketchOptions & { products?: MatrixProducts | null } = {},
): Promise<Candidate[]> {
  const { blobs } = repository;
  const groups = (await groupBlocks(repository, models)).filter((group) => group.length > 1);
  const digests = groups.flat().map(({ digest }) => digest);
  const sketches = await sketchBlocks(repository, digests, options);
  const ranks = products === null ? null : new SampledRanks(blobs, products);
  const candidates: Candidate[] = [];
  let level: Family[] = groups.map((group) => ({ group, parent: null }));
  while (level.length > 0) {
    const ranked = await rankGroups({ blobs, ranks }, level);
    const votes = countVotes(ranked);
    level = [];
    for (const { group, parent, nearest } of ranked) {
      options.signal?.throwIfAborted();
      const base = mostVoted(nearest, votes);
      const others = group.filter((block) => block !== base);
      if (parent !== null) candidates.push({ base: parent, block: base });
      const [near, far] = parent === null ? parted(base, others, sketches) : [others, []];
      const families = takesFactors(base) ? ((await ranks?.families(base, near)) ?? []) : [];
      ranks?.forget();
      level.push(...families.map((family) => ({ group: family, parent: base })));
      if (far.length > 1) level.push({ group: far, parent: null });
      const apart = new Set(families.flat());
      candidates.push(...near.filter((block) => !apart.has(block)).map((block) => ({ base, block })));
    }
  }
  return candidates;
}

function takesFactors({ kind }: DistinctBlock): boolean {
  return kind !== "embedding" && kind !== "opaque";
}

interface Family {
  group: DistinctBlock[];
  /** What the base of this group is a difference to; null: nothing. */
  parent: DistinctBlock | null;
}

interface RankedGroup extends Family {
  /** Those that could be the base, the likeliest first. */
  nearest: DistinctBlock[];
}

interface Comparison {
  blobs: BlobStore;
  ranks: SampledRanks | null;
}

async function rankGroups({ blobs, ranks }: Comparison, families: Family[]): Promise<RankedGroup[]> {
  const weights = await comparePairs(
    blobs,
    families.map(({ group }) => group),
  );
  const ranked: RankedGroup[] = [];
  for (const family of families) {
    const possible = possibleBases(family.group);
    const [first, second, ...others] = possible;
    if (others.length === 0) {
      ranked.push({ ...family, nearest: second === undefined ? [first!] : [baseOfTwo(first!, second, weights)] });
      continue;
    }
    const nearest = await central(blobs, possible);
    const best = takesFactors(first!) && (await ranks?.best(nearest.slice(0, BASES_RANKED)));
    ranks?.forget();
    ranked.push({ ...family, nearest: best || nearest });
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

function parted(
  base: DistinctBlock,
  others: DistinctBlock[],
  sketches: Sketches,
): [near: DistinctBlock[], far: DistinctBlock[]] {
  const packed = new Uint32Array(others.length * SKETCH_WORDS);
  for (const [at, { digest }] of others.entries()) packed.set(sketches.get(digest)!, at * SKETCH_WORDS);
  const distances = nearestSketches(packed, sketches.get(base.digest)!, others.length);
  const near = new Set(distances.filter(({ distance }) => distance <= MOST_BITS).map(({ place }) => others[place]!));
  return [others.filter((block) => near.has(block)), others.filter((block) => !near.has(block))];
}
