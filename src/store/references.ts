import type { AdapterDocument } from "../blocks/adapter.ts";
import type { BlockDocument, TensorEntry } from "../blocks/block.ts";
import { type Descriptor, MEDIA_TYPES } from "./descriptor.ts";

/** Every blob that a block needs besides its own document, in the order it names them; a shared one appears again. */
export function blockReferences(document: BlockDocument): Descriptor[] {
  const tensors = document.parts.flatMap((part) => part.tensors);
  if (document.rotary?.frequencies.kind === "table") {
    tensors.push(document.rotary.frequencies.cos, document.rotary.frequencies.sin);
  }
  return [
    ...document.parts.map((part) => ({ mediaType: MEDIA_TYPES.graph, digest: part.graph, size: part.graphBytes })),
    ...tensors.map(describeTensor),
  ];
}

/** Every factor of an adapter. */
export function adapterReferences(document: AdapterDocument): Descriptor[] {
  return document.parts.flatMap((part) => part.factors.flatMap(({ down, up }) => [down, up].map(describeTensor)));
}

function describeTensor({ digest, bytes }: TensorEntry): Descriptor {
  return { mediaType: MEDIA_TYPES.tensor, digest, size: bytes };
}

/** Each digest once, first come first kept. */
export function distinct(descriptors: Iterable<Descriptor>): Descriptor[] {
  const byDigest = new Map<string, Descriptor>();
  for (const descriptor of descriptors) {
    if (!byDigest.has(descriptor.digest)) byDigest.set(descriptor.digest, descriptor);
  }
  return [...byDigest.values()];
}
