import type { CoreSpec, Digest, RotarySpec, TensorEntry } from "../canonical/specifications.ts";

export type { CoreSpec, Digest, RotarySpec, TensorEntry } from "../canonical/specifications.ts";

/** A slice of the canonical graph with named ports: the unit of storing, sharing and reporting. */
export type BlockKind = "embedding" | "attention" | "mlp" | "head" | "opaque";

/**
 * One block as stored: a JSON document whose sha256 is the block's digest. It holds digests of its graphs and
 * tensors, so two blocks with one digest compute the same function of the same weights.
 */
export interface BlockDocument {
  version: 1;
  kind: BlockKind;
  /** attention: `in` then `out`; every other kind: one `main`. */
  parts: BlockPart[];
  /** Attention only: what runs between `in` and `out`. It has no weights. */
  core: CoreSpec | null;
  /** Attention only: how the `cos` and `sin` rows of the `in` part are made from positions. */
  rotary: RotarySpec | null;
  /** Opaque only: the names that drive the whole model. */
  opaque: OpaqueSpec | null;
}

export interface BlockPart {
  role: "main" | "in" | "out";
  /**
   * The part as a complete ONNX file. Its weights are external data whose `location` is the 64 hex characters of a
   * tensor's digest, offset 0: in `blobs/sha256/` the graph loads in ONNX Runtime as it lies there.
   */
  graph: Digest;
  graphBytes: number;
  inputs: Port[];
  outputs: Port[];
  tensors: TensorEntry[];
}

/** A row-wise port carries [1, N, width]; `ids` and `positions` carry [1, N]. N is any mixture of tokens. */
export interface Port {
  name: PortName;
  /** Elements per token; 1 for ids and positions. */
  width: number;
}

export type PortName =
  | "ids" // int64
  | "positions" // int64; learned position tables only
  | "hidden" // float32, from here on
  | "hidden_out"
  | "cos" // width = rotary dim / 2
  | "sin"
  | "q" // heads × headSize
  | "k" // kvHeads × headSize, rotated, as it is cached
  | "v" // kvHeads × valueHeadSize
  | "o" // heads × valueHeadSize
  | "logits"
  | InnerPortName;

/** A value inside a part that is cut finer for serving (chain/refine-chains.ts); no stored part has such a port. */
export type InnerPortName = `~${string}`;

/** A model that could not be cut: run whole, one sequence at a time, with its own key-value inputs and outputs. */
export interface OpaqueSpec {
  ids: string;
  attentionMask: string | null;
  positions: string | null;
  logits: string;
  /** Every past input with the output that becomes it. Dims as the file gives them; the batch axis is 1. */
  past: {
    input: string;
    output: string;
    dtype: "float32" | "float16" | "int8" | "uint8";
    dims: (number | string | null)[];
    /** null: a state as large whatever was read, zeros at first. */
    sequenceAxis: number | null;
  }[];
  /** Inputs that always get the same value (`use_cache_branch`, `num_logits_to_keep`). */
  constants: { name: string; dtype: "bool" | "int64"; dims: number[]; value: number }[];
}
