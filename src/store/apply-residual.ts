import type { BlockDocument, Digest, TensorEntry } from "../blocks/block.ts";
import { chooseBases } from "./choose-bases.ts";
import { MEDIA_TYPES } from "./descriptor.ts";
import type { DifferenceOptions } from "./find-differences.ts";
import { MOST_TENSOR_BYTES } from "./measure-difference.ts";
import type { ModelSwap, Repository, StoredModel } from "./repository.ts";
import { encodeResidual } from "./residual.ts";
import { blockTensors } from "./sketch-blocks.ts";
import { residualsAmong, type Residuals, type StoredResidual } from "./stored-residual.ts";
import type { Zstd } from "./zstd.ts";

type Options = Pick<DifferenceOptions, "signal" | "onProgress" | "onCompare">;

/** A residual that saves less is not worth decoding on every load. */
const LEAST_SAVING = 0.1;
/**
 * The `wanted` models with every tensor kept as the lossless difference to another that is worth it; the differences are
 * stored, names still stand for the old manifests. Bases come from `all` models. What a model that is not wanted needs
 * whole, and what is a base, stays whole.
 */
export async function encodeResiduals(
  repository: Repository,
  { all, wanted }: { all: StoredModel[]; wanted: StoredModel[] },
  { zstd, ...options }: Options & { zstd: Zstd },
): Promise<(ModelSwap & { before: StoredModel })[]> {
  const known = await repository.residuals();
  const encoder = new ResidualEncoder(repository, { known, zstd, whole: neededWhole(all, wanted) });
  const couples = [
    ...(await chooseBases(repository, all, options)).map(({ base, block }) => ({
      base: base.document,
      block: block.document,
    })),
    ...(await keptOriginals(repository, wanted)),
  ];
  for (const [at, { base, block }] of couples.entries()) {
    options.onCompare?.({ blocks: at, totalBlocks: couples.length });
    const bases = blockTensors(base);
    for (const [place, tensor] of blockTensors(block).entries()) {
      options.signal?.throwIfAborted();
      await encoder.encode(tensor, bases[place]!);
    }
  }
  const residuals: Residuals = new Map([...known, ...encoder.made]);
  return wanted
    .filter(({ manifest }) => manifest.layers.some(({ digest }) => encoder.made.has(digest)))
    .map((before) => ({ before, document: before.document, residuals }));
}

/** What runs, and what it replaced: the one differs little from the other. */
async function keptOriginals(
  repository: Repository,
  models: StoredModel[],
): Promise<{ base: BlockDocument; block: BlockDocument }[]> {
  const couples = new Map<Digest, Digest>();
  for (const { digest, replaces } of models.flatMap(({ document }) => document.chain))
    if (replaces?.kept === true) couples.set(replaces.digest, digest);
  const found = [];
  for (const [block, base] of couples)
    found.push({ base: await repository.readBlock(base), block: await repository.readBlock(block) });
  return found;
}

/** Tensors that other models list whole, and bases of differences that there are. */
function neededWhole(all: StoredModel[], wanted: StoredModel[]): Set<Digest> {
  const names = new Set(wanted.map(({ name }) => name));
  const others = all.filter(({ name }) => !names.has(name));
  return new Set([
    ...others.flatMap(({ manifest }) => manifest.layers.map(({ digest }) => digest)),
    ...all.flatMap(({ manifest }) => residualsAmong(manifest.layers).map(({ base }) => base)),
  ]);
}

class ResidualEncoder {
  readonly made = new Map<Digest, StoredResidual>();
  readonly #repository: Repository;
  readonly #known: Residuals;
  readonly #zstd: Zstd;
  /** Grows by every base that is used. */
  readonly #whole: Set<Digest>;

  constructor(
    repository: Repository,
    { known, zstd, whole }: { known: Residuals; zstd: Zstd; whole: ReadonlySet<Digest> },
  ) {
    this.#repository = repository;
    this.#known = known;
    this.#zstd = zstd;
    this.#whole = new Set(whole);
  }

  /**
   * Stores the tensor's difference where it is small and the tensor need not stay whole. Tensor, base and residual are in
   * memory together, and Node reads no file of 2 GiB at once.
   */
  async encode(tensor: TensorEntry, nearest: TensorEntry): Promise<void> {
    const { blobs } = this.#repository;
    const base = (this.made.get(nearest.digest) ?? this.#known.get(nearest.digest))?.base ?? nearest.digest;
    if (base === tensor.digest || tensor.bytes > MOST_TENSOR_BYTES || nearest.bytes !== tensor.bytes) return;
    if (this.made.has(tensor.digest) || this.#known.has(tensor.digest) || this.#whole.has(tensor.digest)) return;
    if (!(await blobs.has(base))) return;
    const pair = { base: await blobs.read(base), exact: await blobs.read(tensor.digest), dtype: tensor.dtype };
    const pieces: Uint8Array[] = [];
    for await (const piece of encodeResidual(pair, this.#zstd)) pieces.push(piece);
    const size = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (size > (1 - LEAST_SAVING) * tensor.bytes) return;
    const blob = await blobs.putStream({ mediaType: MEDIA_TYPES.residual, size, stream: () => pieces });
    this.#whole.add(base);
    this.made.set(tensor.digest, { tensor: tensor.digest, base, bytes: tensor.bytes, blob });
  }
}
