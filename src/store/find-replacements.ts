import type { BlockDocument, BlockKind, Digest } from "../blocks/block.ts";
import { nearestSketches } from "../fingerprint/nearest-sketches.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import type { ModelDocument } from "./model-document.ts";
import type { Repository } from "./repository.ts";
import { bucketOf, sketchBlocks, type SketchOptions } from "./sketch-blocks.ts";
import type { Sketches } from "./sketch-file.ts";

/** A block that could run in the place of another: same kind, shapes, ports, core and rotary angles. */
export interface Replacement {
  block: Digest;
  by: Digest;
  kind: BlockKind;
  /** Where `block` is. */
  layer: number | null;
  /** Bits of 256 in which the sketches of their weights differ. */
  sketch_distance: number;
}

/** Blocks of other layers are considered only where their sketches are this near; unrelated ones differ in 128 ± 8 bits. */
const MOST_BITS = 96;
/** For one block. What comes first has the same layer, then more uses in all chains, then the nearer sketch. */
const MOST_CONSIDERED = 12;

/**
 * What could replace what, both ways. Blocks of one layer are considered however far their weights are: permuted neurons
 * and rescaled projections compute the same from other numbers. Whether they do is for whoever runs them to say.
 */
export async function findReplacements(
  repository: Repository,
  documents: readonly ModelDocument[],
  options: SketchOptions = {},
): Promise<Replacement[]> {
  const buckets = await fillBuckets(repository, documents);
  const sketches = await sketchBlocks(
    repository,
    buckets.flatMap((blocks) => blocks.map(({ digest }) => digest)),
    options,
  );
  return buckets.flatMap((blocks) => blocks.flatMap((block) => replacementsOf(block, blocks, sketches)));
}

interface PlacedBlock {
  digest: Digest;
  kind: BlockKind;
  layers: Set<number | null>;
  /** In all chains. */
  uses: number;
  /** A block with an adapter somewhere is not replaced: the adapter was made for it. */
  adapted: boolean;
}

async function fillBuckets(repository: Repository, documents: readonly ModelDocument[]): Promise<PlacedBlock[][]> {
  const buckets = new Map<string, Map<Digest, PlacedBlock>>();
  for (const { digest, kind, layer, adapter } of documents.flatMap(({ chain }) => chain)) {
    const key = interchangeKey(await repository.readBlock(digest));
    const bucket = buckets.get(key) ?? new Map<Digest, PlacedBlock>();
    const known = bucket.get(digest) ?? { digest, kind, layers: new Set(), uses: 0, adapted: false };
    known.layers.add(layer);
    known.uses++;
    known.adapted ||= adapter !== undefined;
    buckets.set(key, bucket.set(digest, known));
  }
  return [...buckets.values()].map((bucket) => [...bucket.values()]).filter((blocks) => blocks.length > 1);
}

function interchangeKey(document: BlockDocument): string {
  const ports = document.parts.map(({ role, inputs, outputs }) => ({ role, inputs, outputs }));
  return JSON.stringify([bucketOf(document), ports, document.core, document.rotary]);
}

function replacementsOf(block: PlacedBlock, blocks: PlacedBlock[], sketches: Sketches): Replacement[] {
  if (block.adapted) return [];
  const others = blocks.filter((other) => other !== block);
  const packed = new Uint32Array(others.length * SKETCH_WORDS);
  for (const [at, { digest }] of others.entries()) packed.set(sketches.get(digest)!, at * SKETCH_WORDS);
  const near = nearestSketches(packed, sketches.get(block.digest)!, others.length);
  const considered = near
    .map(({ place, distance }) => ({ other: others[place]!, distance }))
    .filter(({ other, distance }) => sharesLayer(block, other) || distance <= MOST_BITS)
    .toSorted(
      (a, b) =>
        Number(sharesLayer(block, b.other)) - Number(sharesLayer(block, a.other)) || b.other.uses - a.other.uses,
    );
  return considered.slice(0, MOST_CONSIDERED).map(({ other, distance }) => ({
    block: block.digest,
    by: other.digest,
    kind: block.kind,
    layer: [...block.layers][0]!,
    sketch_distance: distance,
  }));
}

function sharesLayer(a: PlacedBlock, b: PlacedBlock): boolean {
  return [...a.layers].some((layer) => b.layers.has(layer));
}
