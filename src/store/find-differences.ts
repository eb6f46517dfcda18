import type { TensorEntry } from "../blocks/block.ts";
import { MatrixProducts } from "../fingerprint/matrix-products.ts";
import { blockProjections, functionOf } from "./block-graphs.ts";
import { type Candidate, chooseBases } from "./choose-bases.ts";
import {
  type BlockDifference,
  type Instruments,
  isFactored,
  measureDifference,
  MOST_TENSOR_BYTES,
  type TensorDifference,
} from "./measure-difference.ts";
import type { Repository, StoredModel } from "./repository.ts";
import type { SketchOptions } from "./sketch-blocks.ts";
import { findZstd } from "./zstd.ts";

export type DifferenceTier = "lowrank" | "residual";

export interface DifferenceOptions extends SketchOptions {
  tiers: readonly DifferenceTier[];
  /** Only blocks that this says yes to are compared with their bases. */
  isWanted?: (candidate: Candidate) => boolean;
  /** Of a tensor that is looked into for a rank or a residual; default `MOST_TENSOR_BYTES`. */
  mostTensorBytes?: number;
  /** A tensor that differs from its base's and is larger. */
  onTooLarge?: (candidate: Candidate, tensor: TensorEntry) => void;
  /** Before a block is compared with its base, which reads both. */
  onCompare?: SketchOptions["onProgress"];
}

/** A block that could be kept as a difference to its base. */
export interface FoundDifference {
  candidate: Candidate;
  difference: BlockDifference;
  tier: DifferenceTier;
}

/** A residual that saves less is not worth decoding on every load. */
const LEAST_SAVING = 0.1;
/** A LoRA leaves norms, biases, now and then a projection that was trained in full; the rest of what differs is factors. */
const LEAST_FACTORED = 0.5;

/** Compares every block with its base, one at a time, and gives those that are worth being kept as the difference. */
export async function* findDifferences(
  repository: Repository,
  models: StoredModel[],
  { tiers, isWanted = () => true, mostTensorBytes: mostBytes = MOST_TENSOR_BYTES, ...options }: DifferenceOptions,
): AsyncGenerator<FoundDifference> {
  const zstd = tiers.includes("residual") ? findZstd() : null;
  if (!tiers.includes("lowrank") && zstd === null) return;
  const products = tiers.includes("lowrank") ? await MatrixProducts.open() : null;
  try {
    const all = await chooseBases(repository, models, { ...options, products });
    const bases = new Set(all.map(({ base }) => base.digest));
    const candidates = all.filter(isWanted);
    const { signal } = options;
    for (const [at, candidate] of candidates.entries()) {
      options.onCompare?.({ blocks: at, totalBlocks: candidates.length });
      // What others run with factors stays a block of its own; on disk it may be a residual all the same.
      const isBase = bases.has(candidate.block.digest);
      const adaptable = products === null || isBase ? NOTHING : await adaptableWeights(repository, candidate);
      const instruments = { products, ...adaptable, zstd, mostBytes, ...(signal ? { signal } : {}) };
      const difference = await measureDifference(repository.blobs, candidate, instruments);
      for (const { tensor } of difference.tensors)
        if (tensor.bytes > mostBytes) options.onTooLarge?.(candidate, tensor);
      const tier = tierOf(difference);
      if (tier !== null) yield { candidate, difference, tier };
    }
  } finally {
    await products?.close();
  }
}

/** None where base and block compute different functions of their weights: factors could not make up for that. */
async function adaptableWeights(
  { blobs }: Repository,
  { base, block }: Candidate,
): Promise<Pick<Instruments, "projections" | "tables">> {
  if ((await functionOf(blobs, base.document)) !== (await functionOf(blobs, block.document))) return NOTHING;
  return { projections: await blockProjections(blobs, base.document), tables: block.kind === "embedding" };
}

const NOTHING: Pick<Instruments, "projections" | "tables"> = { projections: [] };

/**
 * Low rank when most of what differs has one, to the last bit that rounding left. The rest, a changed norm or bias, is no
 * adapter: the block keeps it as its own.
 */
function tierOf({ tensors }: BlockDifference): DifferenceTier | null {
  const factored = bytesOf(tensors.filter(isFactored));
  if (factored > 0 && factored >= LEAST_FACTORED * bytesOf(tensors)) return "lowrank";
  if (tensors.some(({ residual_bytes }) => residual_bytes === null)) return null;
  const ratio = residualRatio(tensors);
  return ratio !== null && 1 - 1 / ratio >= LEAST_SAVING ? "residual" : null;
}

/** Exact bytes / encoded bytes; null where residuals were not measured. */
export function residualRatio(tensors: TensorDifference[]): number | null {
  const encoded = tensors.reduce((sum, { residual_bytes }) => sum + (residual_bytes ?? Number.NaN), 0);
  return Number.isNaN(encoded) || encoded === 0 ? null : bytesOf(tensors) / encoded;
}

function bytesOf(tensors: TensorDifference[]): number {
  return tensors.reduce((sum, { tensor }) => sum + tensor.bytes, 0);
}
