import type { AdapterDocument, AdapterEntry, LowRankFactors } from "../blocks/adapter.ts";
import type { Digest, TensorEntry } from "../blocks/block.ts";
import type { Projection } from "../blocks/projections.ts";
import type { Matrix } from "../fingerprint/matrix-products.ts";
import { blockProjections } from "./block-graphs.ts";
import { MEDIA_TYPES } from "./descriptor.ts";
import { type DifferenceOptions, findDifferences, type FoundDifference } from "./find-differences.ts";
import { isFactored, type MeasuredRank } from "./measure-difference.ts";
import { OWN_WEIGHTS, putMixedBlock } from "./mixed-block.ts";
import type { ChainEntry, ModelDocument, ReplacedBlock } from "./model-document.ts";
import { adapterReferences } from "./references.ts";
import type { ModelSwap, Repository, StoredModel } from "./repository.ts";

export interface LowRankOptions extends Omit<DifferenceOptions, "tiers" | "isWanted"> {
  /** Keep what is replaced, so that it can be undone. */
  keepOriginals: boolean;
}

/** What runs in the place of a block: its base with factors; where more was trained, with some of its own weights. */
interface Substitute {
  base: Pick<ChainEntry, "digest" | "bytes">;
  adapter: AdapterEntry;
  evidence: ReplacedBlock["evidence"];
}

/**
 * The documents of `wanted` models with every block that is a base and low-rank factors kept so; factors are stored,
 * names still stand for the old documents. Bases come from `all` models. A model marked exact only is left as it is:
 * factors give its weights back to rounding, and the order of its sums is another one.
 */
export async function mergeLowRank(
  repository: Repository,
  { all, wanted }: { all: StoredModel[]; wanted: StoredModel[] },
  { keepOriginals, ...options }: LowRankOptions,
): Promise<(ModelSwap & { before: StoredModel })[]> {
  const open = wanted.filter(({ document }) => document.exactOnly !== true);
  const replaceable = new Set(
    open.flatMap(({ document }) => document.chain.filter(isPlain).map(({ digest }) => digest)),
  );
  const substitutes = new Map<Digest, Substitute>();
  const found = findDifferences(repository, all, {
    ...options,
    tiers: ["lowrank"],
    isWanted: ({ block }) => replaceable.has(block.digest),
  });
  for await (const difference of found) {
    const { base, block } = difference.candidate;
    const own = new Set(difference.difference.tensors.filter((one) => !isFactored(one)).map(({ place }) => place));
    substitutes.set(block.digest, {
      base:
        own.size === 0
          ? { digest: base.digest, bytes: bytesOfBlock(all, base.digest) }
          : await putMixedBlock(repository, { base: base.document, block: block.document }, own),
      adapter: await storeFactors(repository, difference),
      evidence: evidenceOf(difference),
    });
  }
  return open.flatMap((before) => {
    const chain = before.document.chain.map((entry) => substituted(entry, { substitutes, kept: keepOriginals }));
    const isChanged = chain.some((entry, at) => entry !== before.document.chain[at]);
    return isChanged ? [{ before, document: { ...before.document, chain } satisfies ModelDocument }] : [];
  });
}

function isPlain({ adapter, replaces }: ChainEntry): boolean {
  return adapter === undefined && replaces === undefined;
}

function substituted(
  entry: ChainEntry,
  { substitutes, kept }: { substitutes: Map<Digest, Substitute>; kept: boolean },
): ChainEntry {
  const substitute = substitutes.get(entry.digest);
  if (substitute === undefined || !isPlain(entry)) return entry;
  const { base, adapter, evidence } = substitute;
  const { kind, layer, digest, bytes } = entry;
  return { kind, layer, ...base, adapter, replaces: { tier: "lowrank", digest, bytes, kept, evidence } };
}

function bytesOfBlock(models: StoredModel[], digest: Digest): number {
  return models.flatMap(({ document }) => document.chain).find((entry) => entry.digest === digest)!.bytes;
}

async function storeFactors(repository: Repository, { candidate, difference }: FoundDifference): Promise<AdapterEntry> {
  const projections = await blockProjections(repository.blobs, candidate.base.document);
  const factors = new Map<number, LowRankFactors>();
  for (const { name, place, low_rank } of difference.tensors.filter(isFactored))
    factors.set(place, await storeOne(repository, name, oriented(low_rank!, projections[place]!)));
  let place = 0;
  const parts = candidate.base.document.parts.map(({ role, tensors }) => ({
    role,
    factors: tensors.flatMap(() => factors.get(place++) ?? []),
  }));
  const document: AdapterDocument = { version: 1, parts: parts.filter((part) => part.factors.length > 0) };
  const [descriptor] = await repository.putAdapters([document]);
  const blobs = new Map(adapterReferences(document).map(({ digest, size }) => [digest, size]));
  return { digest: descriptor!.digest, bytes: [...blobs.values()].reduce((sum, size) => sum + size, 0) };
}

/** As a projection takes them, [in, rank] and [rank, out]: of a weight stored [out, in] both are the other way round. */
function oriented({ left, right }: MeasuredRank, { transposed }: Projection): { down: Matrix; up: Matrix } {
  return transposed ? { down: transpose(right), up: transpose(left) } : { down: left, up: right };
}

function transpose({ rows, columns, values }: Matrix): Matrix {
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) turned[column * rows + row] = values[row * columns + column]!;
  return { rows: columns, columns: rows, values: turned };
}

async function storeOne(
  { blobs }: Repository,
  weight: string,
  { down, up }: { down: Matrix; up: Matrix },
): Promise<LowRankFactors> {
  const sources = [down, up].map(({ values }) => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return { mediaType: MEDIA_TYPES.tensor, size: bytes.byteLength, stream: () => [bytes] };
  });
  const stored = await blobs.putMany(sources);
  const entry = (name: string, at: number, { rows, columns }: Matrix): TensorEntry => ({
    name,
    digest: stored[at]!.digest,
    dtype: "float32",
    dims: [rows, columns],
    bytes: stored[at]!.size,
  });
  return { weight, down: entry("down", 0, down), up: entry("up", 1, up), scale: 1 };
}

function evidenceOf({ difference }: FoundDifference): ReplacedBlock["evidence"] {
  const measured = difference.tensors.filter(isFactored).map(({ low_rank }) => low_rank!);
  const own = difference.tensors.filter((one) => !isFactored(one)).map(({ name }) => name);
  const isExact = measured.every(({ error }) => error.bit_exact);
  return {
    rank: Math.max(...measured.map(({ rank }) => rank)),
    projections: measured.length,
    max_abs_error: Math.max(...measured.map(({ error }) => error.max_abs)),
    relative_error: Math.max(...measured.map(({ error }) => error.relative)),
    weights: isExact ? "bit for bit" : "to rounding",
    ...(own.length === 0 ? {} : { [OWN_WEIGHTS]: own.join(", ") }),
  };
}
