import type { ElementType } from "../onnx/model.ts";

export type Digest = `sha256:${string}`;

export interface TensorEntry {
  /** The initializer's name inside the part's graph. */
  name: string;
  digest: Digest;
  dtype: ElementType;
  dims: number[];
  bytes: number;
}

/** The numbers (integer − zero) × scale of an integer type: all that QuantizeLinear leaves to DequantizeLinear. */
export interface Grid {
  scale: number;
  zero: number;
  integer: ElementType & ("uint8" | "int8" | "uint16" | "int16");
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
