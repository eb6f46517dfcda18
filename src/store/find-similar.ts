import type { BlockDocument, BlockKind, Digest } from "../blocks/block.ts";
import { MatrixProducts } from "../fingerprint/matrix-products.ts";
import { estimateCosine, nearestSketches } from "../fingerprint/nearest-sketches.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import { BlockllmError } from "../support/errors.ts";
import { blockProjections, functionOf } from "./block-graphs.ts";
import { type BlockDistance, compareBlocks } from "./compare-blocks.ts";
import { measureDifference, type TensorDifference } from "./measure-difference.ts";
import { restoredChain } from "./merged-chain.ts";
import type { ChainEntry } from "./model-document.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { blockTensors, bucketOf, sketchBlocks, type SketchOptions } from "./sketch-blocks.ts";

/** What `similar` reports: the keys are its stable JSON. */
export interface SimilarBlocks {
  block: BlockPlace & { digest: Digest; bytes: number; exporter: string };
  /** Distinct blocks of the same kind, shapes and types that were compared. */
  candidates: number;
  /** Nearest first. */
  neighbours: Neighbour[];
}

export interface BlockPlace {
  model: string;
  kind: BlockKind;
  layer: number | null;
  /** The model runs low-rank factors beside the block, which are not compared. Absent: the block is all of it. */
  with_factors?: true;
}

export interface Neighbour extends BlockDistance {
  digest: Digest;
  bytes: number;
  /** Every place that has this block. */
  places: BlockPlace[];
  same_digest: boolean;
  /** Bits of 256 in which the sketches differ. */
  sketch_distance: number;
  /** What the sketches say the cosine is; `weight_cosine` is exact. */
  estimated_cosine: number;
  shared_tensors: number;
  shared_tensor_bytes: number;
  /** Graphs, rotation and core are the same: with the same weights it computes the same. */
  same_function: boolean;
  /** Who wrote the files that it came from. */
  exporters: string[];
  /**
   * Where most of what differs does so by a matrix of low rank, the largest: what merging a LoRA leaves, beside a norm or
   * a bias now and then. `tensors`: how many; `exact`: to rounding. Looked for in the nearest few only; null: not found,
   * or not looked for.
   */
  low_rank: { rank: number; exact: boolean; tensors: number } | null;
}

/** A low-rank test takes up to a second per matrix. */
const RANKS_SOUGHT = 4;
/** Of the bytes that differ. */
const LEAST_RANKED = 0.5;
/** Unrelated blocks differ in 128 ± 8 bits of their sketches. */
const MOST_BITS = 96;

/**
 * The `top` blocks nearest to one, of any layer of any model, by their sketches, then compared exactly. Models as they were
 * split, where merges left the originals there.
 */
export async function findSimilar(
  repository: Repository,
  address: string,
  { top, ...options }: SketchOptions & { top: number },
): Promise<SimilarBlocks> {
  const { model, link } = await findBlock(repository, address);
  const document = await repository.readBlock(link.digest);
  const bucket = bucketOf(document);
  const { places, bytes, exporters } = await placesOfBlocks(repository);
  const ownFunction = await functionOf(repository.blobs, document);
  const candidates: Digest[] = [];
  for (const digest of places.keys()) {
    if (bucketOf(await repository.readBlock(digest)) === bucket) candidates.push(digest);
  }
  const sketches = await sketchBlocks(repository, candidates, options);
  const packed = new Uint32Array(candidates.length * SKETCH_WORDS);
  for (const [at, digest] of candidates.entries()) packed.set(sketches.get(digest)!, at * SKETCH_WORDS);

  const self = placeOf(model.name, link);
  const neighbours: Neighbour[] = [];
  for (const near of nearestSketches(packed, sketches.get(link.digest)!, top + 1)) {
    const digest = candidates[near.place]!;
    const found = places.get(digest)!.filter((place) => !isSame(place, self));
    if (found.length === 0) continue;
    const other = await repository.readBlock(digest);
    const distance = await compareBlocks(repository.blobs, { a: document, b: other }, options.signal);
    const shared = blockTensors(other).filter((_, at) => distance.tensors[at]!.same);
    neighbours.push({
      digest,
      bytes: bytes.get(digest)!,
      places: found,
      same_digest: digest === link.digest,
      sketch_distance: near.distance,
      estimated_cosine: estimateCosine(near.distance),
      shared_tensors: shared.length,
      shared_tensor_bytes: shared.reduce((sum, tensor) => sum + tensor.bytes, 0),
      same_function: (await functionOf(repository.blobs, other)) === ownFunction,
      exporters: [...exporters.get(digest)!],
      low_rank: null,
      ...distance,
    });
  }
  neighbours.sort((a, b) => Number(b.same_digest) - Number(a.same_digest) || a.relative_delta - b.relative_delta);
  const nearest = neighbours.slice(0, top);
  await findRanks(repository, nearest, { document, ...(options.signal ? { signal: options.signal } : {}) });
  return {
    block: { ...self, digest: link.digest, bytes: link.bytes, exporter: model.document.exporter },
    candidates: candidates.length,
    neighbours: nearest,
  };
}

/** Sets `low_rank` of the nearest neighbours whose weights are others. */
async function findRanks(
  repository: Repository,
  neighbours: Neighbour[],
  { document, signal }: { document: BlockDocument; signal?: AbortSignal },
): Promise<void> {
  const sought = neighbours
    .filter(({ relative_delta, same_function, sketch_distance }) => {
      return relative_delta > 0 && same_function && sketch_distance <= MOST_BITS;
    })
    .slice(0, RANKS_SOUGHT);
  if (sought.length === 0) return;
  const projections = await blockProjections(repository.blobs, document);
  const products = await MatrixProducts.open();
  try {
    for (const neighbour of sought) {
      const pair = { base: { document }, block: { document: await repository.readBlock(neighbour.digest) } };
      const tables = document.kind === "embedding";
      const instruments = { products, projections, tables, zstd: null, ...(signal ? { signal } : {}) };
      const { tensors } = await measureDifference(repository.blobs, pair, instruments);
      const found = tensors.filter(({ low_rank }) => low_rank !== null);
      if (found.length === 0 || bytesOf(found) < LEAST_RANKED * bytesOf(tensors)) continue;
      const exact = found.every(({ low_rank }) => low_rank!.error.is_rounding);
      const rank = Math.max(...found.map(({ low_rank }) => low_rank!.rank));
      neighbour.low_rank = { rank, exact, tensors: found.length };
    }
  } finally {
    await products.close();
  }
}

function bytesOf(tensors: TensorDifference[]): number {
  return tensors.reduce((sum, { tensor }) => sum + tensor.bytes, 0);
}

/** `<model>:<kind>` or `<model>:<kind>.<layer>`; the model may have a tag of its own before the last colon. */
async function findBlock(repository: Repository, address: string): Promise<{ model: StoredModel; link: ChainEntry }> {
  const [, name = "", kind = "", layer] = /^(.+):([a-z]+)(?:[. ](\d+))?$/.exec(address) ?? [];
  if (name === "") {
    throw new BlockllmError("usage", `"${address}" names no block`, {
      hint: "write <model>:<block>, like support:mlp.3, support:v2:attention.0 or base:embedding",
    });
  }
  const model = await repository.readModel(name);
  const wanted = layer === undefined ? null : Number(layer);
  const link = restoredChain(model.document.chain).find((one) => one.kind === kind && one.layer === wanted);
  if (link) return { model, link };
  const blocks = model.document.chain.map((one) => (one.layer === null ? one.kind : `${one.kind}.${one.layer}`));
  throw new BlockllmError("usage", `${model.name} has no block ${address.slice(name.length + 1)}`, {
    hint: `it has ${blocks.join(", ")}`,
  });
}

async function placesOfBlocks(repository: Repository) {
  const places = new Map<Digest, BlockPlace[]>();
  const bytes = new Map<Digest, number>();
  const exporters = new Map<Digest, Set<string>>();
  for (const entry of await repository.listModels()) {
    const { name, document } = await repository.readModelEntry(entry);
    for (const link of restoredChain(document.chain)) {
      const known = places.get(link.digest) ?? [];
      places.set(link.digest, [...known, placeOf(name, link)]);
      bytes.set(link.digest, link.bytes);
      exporters.set(link.digest, (exporters.get(link.digest) ?? new Set()).add(document.exporter));
    }
  }
  return { places, bytes, exporters };
}

function placeOf(model: string, { kind, layer, adapter }: ChainEntry): BlockPlace {
  return { model, kind, layer, ...(adapter === undefined ? {} : { with_factors: true }) };
}

function isSame(a: BlockPlace, b: BlockPlace): boolean {
  return a.model === b.model && a.kind === b.kind && a.layer === b.layer;
}
