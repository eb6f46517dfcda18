import type { BlockPart, Digest, TensorEntry } from "./block.ts";

/**
 * What one model adds to the linear projections of a block that it shares with others: low-rank factors (LoRA, arXiv
 * 2106.09685). A JSON document of its own beside the block, so that the block stays one for all of them.
 */
export interface AdapterDocument {
  version: 1;
  /** Only parts that get something. */
  parts: AdapterPart[];
}

export interface AdapterPart {
  role: BlockPart["role"];
  factors: LowRankFactors[];
}

/** A projection gives x·W + scale · (x·down)·up. */
export interface LowRankFactors {
  /** The projection, by the name of its weight among the part's tensors. */
  weight: string;
  /** [in, rank] */
  down: TensorEntry;
  /** [rank, out] */
  up: TensorEntry;
  scale: number;
}

/** An adapter where a chain names it. */
export interface AdapterEntry {
  digest: Digest;
  /** Of its factors. */
  bytes: number;
}
