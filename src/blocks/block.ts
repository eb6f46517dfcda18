import type { ElementType } from "../onnx/model.ts";

/** A slice of the canonical graph with named ports: the unit of storing, sharing and reporting. */
export type BlockKind = "embedding" | "attention" | "mlp" | "head" | "opaque";

export type Digest = `sha256:${string}`;

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
  | "logits";

export interface TensorEntry {
  /** The initializer's name inside the part's graph. */
  name: string;
  digest: Digest;
  dtype: ElementType;
  dims: number[];
  bytes: number;
}

/** The weightless, stateful attention core between the two row-wise parts: softmax(scale·q·kᵀ + bias)·v, causal. */
export interface CoreSpec {
  heads: number;
  kvHeads: number;
  headSize: number;
  valueHeadSize: number;
  scale: number;
  /** How many keys a query sees, its own included; null: all before it. */
  window: number | null;
  /** c in c·tanh(score / c); null: none. */
  softcap: number | null;
  /** One per head, added as slope·(key position − query position); null: none. */
  alibiSlopes: number[] | null;
  /** One logit per head that joins the softmax and has no value (gpt-oss); null: none. */
  sinks: number[] | null;
}

/** Rotary position embedding (arXiv 2104.09864): which angles, for which elements of each head. */
export interface RotarySpec {
  /** Rotated elements per head, the first ones; even. */
  dim: number;
  /** true: pairs (2i, 2i+1); false: pairs (i, i + dim/2). */
  interleaved: boolean;
  frequencies:
    | { kind: "theta"; theta: number }
    /** dim/2 inverse frequencies, float32 values. */
    | { kind: "list"; values: number[] }
    /** float32 tables [rows, dim/2], one row per position. */
    | { kind: "table"; cos: TensorEntry; sin: TensorEntry };
  /** Factor on cos and sin (YaRN's attention factor); 1 for most. */
  scale: number;
}

/** A model that could not be cut: run whole, one sequence at a time, with its own key-value inputs and outputs. */
export interface OpaqueSpec {
  ids: string;
  attentionMask: string | null;
  positions: string | null;
  logits: string;
  /** Every past input with the output that becomes it. Dims as the file gives them; the batch axis is 1. */
  past: { input: string; output: string; dtype: "float32" | "float16"; dims: (number | string | null)[]; sequenceAxis: number }[];
  /** Inputs that always get the same value (`use_cache_branch`, `num_logits_to_keep`). */
  constants: { name: string; dtype: "bool" | "int64"; dims: number[]; value: number }[];
}
