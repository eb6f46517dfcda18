import { z } from "zod";

import type { Digest } from "../blocks/block.ts";
import { BlockllmError } from "../support/errors.ts";
import type { Descriptor } from "./descriptor.ts";
import { descriptorSchema, type Index } from "./document-schemas.ts";
import { parseDocument, readSmallBlob } from "./documents.ts";
import type { FileBlobStore } from "./file-blob-store.ts";

/** What any OCI manifest or index may point at, whoever wrote it: signatures and attachments of a model are kept too. */
const pointersSchema = z.object({
  config: descriptorSchema.optional(),
  layers: z.array(descriptorSchema).optional(),
  blobs: z.array(descriptorSchema).optional(),
  manifests: z.array(descriptorSchema).optional(),
  subject: descriptorSchema.optional(),
});

/**
 * Every blob that the index reaches, with the size it should have. A manifest lists all that its model needs, so
 * nothing below it has to be read. A manifest that cannot be read throws, unless `onUnreadable` takes the error:
 * whoever sweeps by an incomplete mark deletes models.
 */
export async function markReachable(
  blobs: FileBlobStore,
  index: Index,
  onUnreadable: (error: BlockllmError) => void = rethrow,
): Promise<Map<Digest, number>> {
  const marked = new Map<Digest, number>();
  const manifests = [...index.manifests];
  for (let found = manifests.pop(); found; found = manifests.pop()) {
    if (marked.has(found.digest)) continue;
    marked.set(found.digest, found.size);
    const { config, layers = [], blobs: attached = [], ...more } = await readPointers(blobs, found, onUnreadable);
    for (const leaf of [...(config ? [config] : []), ...layers, ...attached]) marked.set(leaf.digest, leaf.size);
    manifests.push(...(more.manifests ?? []), ...(more.subject ? [more.subject] : []));
  }
  return marked;
}

async function readPointers(
  blobs: FileBlobStore,
  found: Descriptor,
  onUnreadable: (error: BlockllmError) => void,
): Promise<z.infer<typeof pointersSchema>> {
  try {
    return parseDocument(await readSmallBlob(blobs, found), pointersSchema, `the manifest ${found.digest}`);
  } catch (error) {
    if (!(error instanceof BlockllmError)) throw error;
    onUnreadable(error);
    return {};
  }
}

function rethrow(error: BlockllmError): never {
  throw error;
}
