import type { Digest } from "../blocks/block.ts";

/** How everything in the repository is named and handed on (OCI image spec, descriptor): never a path. */
export interface Descriptor {
  mediaType: string;
  digest: Digest;
  /** Bytes. */
  size: number;
  artifactType?: string;
  annotations?: Record<string, string>;
}

export const MEDIA_TYPES = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  /** ModelDocument: the config of a manifest. */
  model: "application/vnd.blockllm.model.v1+json",
  /** BlockDocument. */
  block: "application/vnd.blockllm.block.v1+json",
  /** AdapterDocument. */
  adapter: "application/vnd.blockllm.adapter.v1+json",
  /** A block's part as a complete ONNX file. */
  graph: "application/vnd.blockllm.graph.v1+onnx",
  /** Raw little-endian, row-major elements, no header: what ONNX external data points at. */
  tensor: "application/vnd.cncf.model.weight.v1.raw",
  /** A tensor as its lossless difference to another (residual.ts); annotated with both. */
  residual: "application/vnd.blockllm.residual.v1",
  /** A tokenizer or configuration file as it came. */
  file: "application/vnd.cncf.model.weight.config.v1.raw",
} as const;

/** What a blockllm manifest says it is, so that foreign tools can tell a model from an image. */
export const ARTIFACT_TYPE = "application/vnd.blockllm.model.v1+json";

export const ANNOTATIONS = {
  referenceName: "org.opencontainers.image.ref.name",
  title: "org.opencontainers.image.title",
  /** Of a residual: the digest of the tensor that it gives, its bytes, and the digest of the tensor that it is based on. */
  tensor: "ai.blockllm.tensor",
  tensorBytes: "ai.blockllm.tensor.bytes",
  base: "ai.blockllm.base",
  /** Of a name in index.json: the files it was split from. */
  sourceFolder: "ai.blockllm.source.folder",
  sourceGraph: "ai.blockllm.source.graph",
  sourceBytes: "ai.blockllm.source.bytes",
  /** ModelPack's name for the path of a file inside the model folder. */
  filePath: "org.cncf.model.filepath",
} as const;
