import type { AdapterDocument } from "../blocks/adapter.ts";
import type { BlockDocument, Digest } from "../blocks/block.ts";
import { ANNOTATIONS, ARTIFACT_TYPE, type Descriptor, MEDIA_TYPES } from "./descriptor.ts";
import type { ModelDocument } from "./model-document.ts";
import { adapterReferences, blockReferences, distinct } from "./references.ts";
import { layersWithResiduals, type Residuals } from "./stored-residual.ts";

/** A document with the descriptor of its blob. */
export interface StoredDocument<Document> {
  descriptor: Descriptor;
  document: Document;
}

export interface StoredDocuments {
  blocks: Map<Digest, StoredDocument<BlockDocument>>;
  adapters: Map<Digest, StoredDocument<AdapterDocument>>;
  residuals: Residuals;
}

/**
 * The OCI image manifest of a model (OCI image spec 1.1, artifact usage): the document as its config and every blob
 * it needs, each once, as layers, so that any registry or tool that copies the manifest copies the whole model.
 */
export function makeManifest(config: Descriptor, document: ModelDocument, stored: StoredDocuments): object {
  const uses = document.chain.flatMap((entry) => [entry, ...(entry.replaces?.kept ? [entry.replaces] : [])]);
  const blocks = uses.map((use) => found(stored.blocks, use.digest));
  const adapters = uses.flatMap(({ adapter }) => (adapter ? [found(stored.adapters, adapter.digest)] : []));
  const layers = [
    ...blocks.map((block) => block.descriptor),
    ...adapters.map((adapter) => adapter.descriptor),
    ...blocks.flatMap((block) => blockReferences(block.document)),
    ...adapters.flatMap((adapter) => adapterReferences(adapter.document)),
    ...document.files.map(describeFile),
  ];
  return {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    artifactType: ARTIFACT_TYPE,
    config,
    layers: layersWithResiduals(distinct(layers), stored.residuals),
  };
}

function found<Document>(stored: Map<Digest, StoredDocument<Document>>, digest: Digest): StoredDocument<Document> {
  const document = stored.get(digest);
  if (!document) throw new Error(`${digest} was not read before the manifest was made`);
  return document;
}

function describeFile(file: ModelDocument["files"][number]): Descriptor {
  return {
    mediaType: MEDIA_TYPES.file,
    digest: file.digest,
    size: file.bytes,
    annotations: { [ANNOTATIONS.title]: file.name, [ANNOTATIONS.filePath]: file.name },
  };
}
