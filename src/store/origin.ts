import { ANNOTATIONS, type Descriptor } from "./descriptor.ts";

/** The files that a name was split from. */
export interface Origin {
  folder: string;
  graph: string;
  /** Of the graph and its external data. */
  bytes: number;
}

/**
 * Said beside the name in index.json and not in the model document: the same files in a folder of another name are the
 * same document then, and a second name for them costs no blob.
 */
export function originAnnotations({ folder, graph, bytes }: Origin): Record<string, string> {
  return {
    [ANNOTATIONS.sourceFolder]: folder,
    [ANNOTATIONS.sourceGraph]: graph,
    [ANNOTATIONS.sourceBytes]: String(bytes),
  };
}

/** Of a descriptor in index.json; null where it does not say all of it, as after a copy through a registry. */
export function originOf({ annotations = {} }: Pick<Descriptor, "annotations">): Origin | null {
  const folder = annotations[ANNOTATIONS.sourceFolder];
  const graph = annotations[ANNOTATIONS.sourceGraph];
  const bytes = Number(annotations[ANNOTATIONS.sourceBytes] ?? NaN);
  return folder === undefined || graph === undefined || !Number.isSafeInteger(bytes) ? null : { folder, graph, bytes };
}
