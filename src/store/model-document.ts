import type { AdapterEntry } from "../blocks/adapter.ts";
import type { BlockKind, Digest } from "../blocks/block.ts";

/** A model as an ordered list of blocks: the config blob of its OCI manifest (`application/vnd.blockllm.model.v1+json`). */
export interface ModelDocument {
  version: 1;
  exporter: string;
  family: string;
  precision: string;
  opaque: boolean;
  layers: number;
  hiddenSize: number | null;
  vocabSize: number;
  /** Tokens a sequence may have in all; null: the files do not say. */
  contextLength: number | null;
  /** Token ids that end a sequence; may be empty. */
  endTokens: number[];
  beginToken: number | null;
  /** The file itself is right only when fed token by token; what compares with it must do so. Absent: false. */
  oneTokenAtATime?: boolean | undefined;
  /** Its owner allows no merge that changes numbers (low rank, equivalent). Absent: false. */
  exactOnly?: boolean | undefined;
  /** In the order tokens go through them. */
  chain: ChainEntry[];
  /** Tokenizer and configuration files as they came. */
  files: { name: string; digest: Digest; bytes: number }[];
  /** What was recognised and how, in sentences for `split` and `show`. */
  recognised: string[];
  warnings: string[];
}

export interface ChainEntry {
  kind: BlockKind;
  /** null for embedding, head and opaque. */
  layer: number | null;
  digest: Digest;
  /** Weights and graphs of the block. */
  bytes: number;
  /** What this model adds to the block's projections; the block itself may be shared with models that add nothing. */
  adapter?: AdapterEntry | undefined;
  /** The block that the model came with, where another one runs in its place. Absent: the chain is as it was split. */
  replaces?: ReplacedBlock | undefined;
}

/** What a merge that changes numbers put aside, and what it was measured to cost. */
export interface ReplacedBlock {
  tier: "lowrank" | "equivalent";
  digest: Digest;
  bytes: number;
  adapter?: AdapterEntry | undefined;
  /** Its blobs are still stored: the merge can be undone. */
  kept: boolean;
  /** What was measured before the merge was accepted, by name; written for `show` and audits. */
  evidence: Record<string, number | string>;
}
