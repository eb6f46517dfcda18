import { z } from "zod";

import type { AdapterDocument } from "../blocks/adapter.ts";
import type { BlockDocument, Digest, TensorEntry } from "../blocks/block.ts";
import { isDigest } from "../fingerprint/digest.ts";
import type { Descriptor } from "./descriptor.ts";
import type { ModelDocument } from "./model-document.ts";
import type { Origin } from "./origin.ts";

/**
 * What the JSON documents of a repository must look like. A document's bytes are verified against its digest before
 * they come here, so what these catch is a foreign or a newer writer, not a damaged disk. Unknown keys are allowed.
 */
const digest = z.custom<Digest>((value) => typeof value === "string" && isDigest(value), "must be sha256:<64 hex>");
const count = z.int().nonnegative();
const blockKind = z.enum(["embedding", "attention", "mlp", "head", "opaque"]);
const elementType = z.enum([
  ...(["float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"] as const),
  ...(["float16", "float64", "uint32", "uint64", "bfloat16", "float8e4m3fn", "float8e5m2", "uint4", "int4"] as const),
]);

const tensorEntry: z.ZodType<TensorEntry> = z.object({
  name: z.string(),
  digest,
  dtype: elementType,
  dims: z.array(count),
  bytes: count,
});

const port = z.object({
  name: z.enum(["ids", "positions", "hidden", "hidden_out", "cos", "sin", "q", "k", "v", "o", "logits"]),
  width: count,
});

const role = z.enum(["main", "in", "out"]);

const part = z.object({
  role,
  graph: digest,
  graphBytes: count,
  inputs: z.array(port),
  outputs: z.array(port),
  tensors: z.array(tensorEntry),
});

const core = z.object({
  heads: count,
  kvHeads: count,
  headSize: count,
  valueHeadSize: count,
  scale: z.number(),
  window: count.nullable(),
  softcap: z.number().nullable(),
  alibiSlopes: z.array(z.number()).nullable(),
  sinks: z.array(z.number()).nullable(),
});

const rotary = z.object({
  dim: count,
  interleaved: z.boolean(),
  frequencies: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("theta"), theta: z.number() }),
    z.object({ kind: z.literal("list"), values: z.array(z.number()) }),
    z.object({ kind: z.literal("table"), cos: tensorEntry, sin: tensorEntry }),
  ]),
  scale: z.number(),
});

const opaque = z.object({
  ids: z.string(),
  attentionMask: z.string().nullable(),
  positions: z.string().nullable(),
  logits: z.string(),
  past: z.array(
    z.object({
      input: z.string(),
      output: z.string(),
      dtype: z.enum(["float32", "float16", "int8", "uint8"]),
      dims: z.array(z.union([z.number(), z.string(), z.null()])),
      sequenceAxis: count.nullable(),
    }),
  ),
  constants: z.array(
    z.object({ name: z.string(), dtype: z.enum(["bool", "int64"]), dims: z.array(count), value: z.number() }),
  ),
});

export const blockSchema: z.ZodType<BlockDocument> = z.object({
  version: z.literal(1),
  kind: blockKind,
  parts: z.array(part).min(1),
  core: core.nullable(),
  rotary: rotary.nullable(),
  opaque: opaque.nullable(),
});

export const adapterSchema: z.ZodType<AdapterDocument> = z.object({
  version: z.literal(1),
  parts: z.array(
    z.object({
      role,
      factors: z.array(z.object({ weight: z.string(), down: tensorEntry, up: tensorEntry, scale: z.number() })).min(1),
    }),
  ),
});

const adapterEntry = z.object({ digest, bytes: count });

const chainEntry = z.object({
  kind: blockKind,
  layer: count.nullable(),
  digest,
  bytes: count,
  adapter: adapterEntry.optional(),
  replaces: z
    .object({
      tier: z.enum(["lowrank", "equivalent"]),
      digest,
      bytes: count,
      adapter: adapterEntry.optional(),
      kept: z.boolean(),
      evidence: z.record(z.string(), z.union([z.number(), z.string()])),
    })
    .optional(),
});

export const modelSchema: z.ZodType<ModelDocument> = z.object({
  version: z.literal(1),
  exporter: z.string(),
  family: z.string(),
  precision: z.string(),
  opaque: z.boolean(),
  layers: count,
  hiddenSize: count.nullable(),
  vocabSize: count,
  contextLength: count.nullable(),
  endTokens: z.array(count),
  beginToken: count.nullable(),
  oneTokenAtATime: z.boolean().optional(),
  exactOnly: z.boolean().optional(),
  chain: z.array(chainEntry).min(1),
  files: z.array(z.object({ name: z.string(), digest, bytes: count })),
  recognised: z.array(z.string()),
  warnings: z.array(z.string()),
});

/** As early versions wrote it, with what `index.json` says now. */
export const storedModelSchema: z.ZodType<ModelDocument & { source?: Origin | undefined }> = z.intersection(
  modelSchema,
  z.object({ source: z.object({ folder: z.string(), graph: z.string(), bytes: count }).optional() }),
);

/** Loose: index.json is written again with whatever other tools put there. */
export const descriptorSchema = z.looseObject({
  mediaType: z.string(),
  digest,
  size: count,
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
}) as unknown as z.ZodType<Descriptor>;

/** Of a manifest only what blockllm uses: everything in it is a descriptor of something it needs. */
export interface Manifest {
  config: Descriptor;
  layers: Descriptor[];
}

export const manifestSchema: z.ZodType<Manifest> = z.object({
  config: descriptorSchema,
  layers: z.array(descriptorSchema),
});

export interface Index {
  manifests: Descriptor[];
}

export const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  manifests: z.array(descriptorSchema),
}) as unknown as z.ZodType<Index>;
