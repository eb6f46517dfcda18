import type { BlockDocument, BlockKind, Digest } from "../blocks/block.ts";
import { nearestSketches } from "../fingerprint/nearest-sketches.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import type { BlobStore } from "./blob-store.ts";
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

/**
 * Which block could be kept as a difference to which. Blocks are grouped by layer, kind and shapes; the base of a group is
 * the one nearest to all others, since fine-tunes lie around what they were tuned from; what is not near it forms a group
 * of its own.
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
  while (groups.length > 0) {
    const group = groups.pop()!;
    const base = await centralBlock(repository.blobs, group);
    const [near, far] = parted(group, base, sketches);
    candidates.push(...near.map((block) => ({ base, block })));
    if (far.length > 1) groups.push(far);
  }
  return candidates;
}

async function groupBlocks(repository: Repository, models: StoredModel[]): Promise<Map<string, DistinctBlock[]>> {
  const groups = new Map<string, DistinctBlock[]>();
  for (const { name, document: model } of models) {
    for (const { digest, kind, layer } of model.chain) {
      const document = await repository.readBlock(digest);
      const key = `${layer} ${bucketOf(document)}`;
      const group = groups.get(key) ?? [];
      const known = group.find((block) => block.digest === digest);
      if (known) known.models.push(name);
      else groups.set(key, [...group, { digest, kind, layer, document, models: [name] }]);
    }
  }
  return groups;
}

async function centralBlock(blobs: BlobStore, group: DistinctBlock[]): Promise<DistinctBlock> {
  const byUse = group.toSorted((a, b) => b.models.length - a.models.length);
  if (group.length === 2) return byUse[0]!;
  const considered = byUse.slice(0, MOST_CONSIDERED);
  const samples: Float32Array[][] = [];
  for (const { document } of considered) samples.push(await sampleWeights(blobs, document));
  const totals = samples.map((sample) => samples.reduce((sum, other) => sum + sampledDistance(sample, other), 0));
  return considered[totals.indexOf(Math.min(...totals))]!;
}

function parted(group: DistinctBlock[], base: DistinctBlock, sketches: Sketches): [DistinctBlock[], DistinctBlock[]] {
  const others = group.filter((block) => block !== base);
  const packed = new Uint32Array(others.length * SKETCH_WORDS);
  for (const [at, { digest }] of others.entries()) packed.set(sketches.get(digest)!, at * SKETCH_WORDS);
  const distances = nearestSketches(packed, sketches.get(base.digest)!, others.length);
  const near = new Set(distances.filter(({ distance }) => distance <= MOST_BITS).map(({ place }) => others[place]!));
  return [others.filter((block) => near.has(block)), others.filter((block) => !near.has(block))];
}
