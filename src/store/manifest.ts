import type { BlockDocument, Digest } from "../blocks/block.ts";
import { ANNOTATIONS, ARTIFACT_TYPE, type Descriptor, MEDIA_TYPES } from "./descriptor.ts";
import type { ModelDocument } from "./model-document.ts";
import { blockReferences, distinct } from "./references.ts";

/** A block document with the descriptor of its blob. */
export interface StoredBlock {
  descriptor: Descriptor;
  document: BlockDocument;
}

/**
 * The OCI image manifest of a model (OCI image spec 1.1, artifact usage): the document as its config and every blob
 * it needs, each once, as layers, so that any registry or tool that copies the manifest copies the whole model.
 */
export function makeManifest(config: Descriptor, document: ModelDocument, blocks: Map<Digest, StoredBlock>): object {
  const inChain = document.chain.map((entry) => {
    const block = blocks.get(entry.digest);
    if (!block) throw new Error(`block ${entry.digest} was not read before the manifest was made`);
    return block;
  });
  const layers = [
    ...inChain.map((block) => block.descriptor),
    ...inChain.flatMap((block) => blockReferences(block.document)),
    ...document.files.map(describeFile),
  ];
  return {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    artifactType: ARTIFACT_TYPE,
    config,
    layers: distinct(layers),
  };
}

function describeFile(file: ModelDocument["files"][number]): Descriptor {
  return {
    mediaType: MEDIA_TYPES.file,
    digest: file.digest,
    size: file.bytes,
    annotations: { [ANNOTATIONS.title]: file.name, [ANNOTATIONS.filePath]: file.name },
  };
}
