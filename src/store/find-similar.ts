import type { BlockKind, Digest } from "../blocks/block.ts";
import { estimateCosine, nearestSketches } from "../fingerprint/nearest-sketches.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import { BlockllmError } from "../support/errors.ts";
import { type BlockDistance, compareBlocks } from "./compare-blocks.ts";
import type { ChainEntry } from "./model-document.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { blockTensors, bucketOf, sketchBlocks, type SketchOptions } from "./sketch-blocks.ts";

/** What `similar` reports: the keys are its stable JSON. */
export interface SimilarBlocks {
  block: BlockPlace & { digest: Digest; bytes: number };
  /** Distinct blocks of the same kind, shapes and types that were compared. */
  candidates: number;
  /** Nearest first. */
  neighbours: Neighbour[];
}

export interface BlockPlace {
  model: string;
  kind: BlockKind;
  layer: number | null;
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
}

/** The `top` blocks nearest to one, of any layer of any model, by their sketches, then compared exactly. */
export async function findSimilar(
  repository: Repository,
  address: string,
  { top, ...options }: SketchOptions & { top: number },
): Promise<SimilarBlocks> {
  const { model, link } = await findBlock(repository, address);
  const document = await repository.readBlock(link.digest);
  const bucket = bucketOf(document);
  const { places, bytes } = await placesOfBlocks(repository);
  const candidates: Digest[] = [];
  for (const digest of places.keys()) {
    if (bucketOf(await repository.readBlock(digest)) === bucket) candidates.push(digest);
  }
  const sketches = await sketchBlocks(repository, candidates, options);
  const packed = new Uint32Array(candidates.length * SKETCH_WORDS);
  for (const [at, digest] of candidates.entries()) packed.set(sketches.get(digest)!, at * SKETCH_WORDS);

  const self = { model: model.name, kind: link.kind, layer: link.layer };
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
      ...distance,
    });
  }
  neighbours.sort((a, b) => Number(b.same_digest) - Number(a.same_digest) || a.relative_delta - b.relative_delta);
  return {
    block: { ...self, digest: link.digest, bytes: link.bytes },
    candidates: candidates.length,
    neighbours: neighbours.slice(0, top),
  };
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
  const link = model.document.chain.find((one) => one.kind === kind && one.layer === wanted);
  if (link) return { model, link };
  const blocks = model.document.chain.map((one) => (one.layer === null ? one.kind : `${one.kind}.${one.layer}`));
  throw new BlockllmError("usage", `${model.name} has no block ${address.slice(name.length + 1)}`, {
    hint: `it has ${blocks.join(", ")}`,
  });
}

async function placesOfBlocks(repository: Repository) {
  const places = new Map<Digest, BlockPlace[]>();
  const bytes = new Map<Digest, number>();
  for (const entry of await repository.listModels()) {
    const { name, document } = await repository.readModelEntry(entry);
    for (const { kind, layer, ...link } of document.chain) {
      const known = places.get(link.digest) ?? [];
      places.set(link.digest, [...known, { model: name, kind, layer }]);
      bytes.set(link.digest, link.bytes);
    }
  }
  return { places, bytes };
}

function isSame(a: BlockPlace, b: BlockPlace): boolean {
  return a.model === b.model && a.kind === b.kind && a.layer === b.layer;
}
