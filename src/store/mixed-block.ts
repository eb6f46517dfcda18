import type { BlockDocument, BlockPart, TensorEntry } from "../blocks/block.ts";
import { digestHex } from "../fingerprint/digest.ts";
import { readGraphAlone } from "../onnx/read-model.ts";
import { writeModel } from "../onnx/write-model.ts";
import { MEDIA_TYPES } from "./descriptor.ts";
import type { ChainEntry, ReplacedBlock } from "./model-document.ts";
import { blockReferences, distinct } from "./references.ts";
import type { Repository } from "./repository.ts";

/**
 * Stores `base`'s block with the weights of `block` at some places of `blockTensors`; both compute the same function of
 * their weights. Parts without such a place are `base`'s own, so that they run as one.
 */
export async function putMixedBlock(
  repository: Repository,
  { base, block }: { base: BlockDocument; block: BlockDocument },
  places: ReadonlySet<number>,
): Promise<Pick<ChainEntry, "digest" | "bytes">> {
  const parts: BlockPart[] = [];
  let place = 0;
  for (const [at, part] of base.parts.entries()) {
    const own = block.parts[at]!.tensors;
    const tensors = part.tensors.map((tensor, index) => (places.has(place++) ? own[index]! : tensor));
    const isMixed = tensors.some((tensor, index) => tensor !== part.tensors[index]);
    parts.push(isMixed ? await withWeights(repository, part, tensors) : part);
  }
  const document = { ...base, parts };
  const { digest } = await repository.putBlock(document);
  return { digest, bytes: distinct(blockReferences(document)).reduce((sum, { size }) => sum + size, 0) };
}

/** Does what runs in this one's place have weights of this one besides those of its base? */
export function hasOwnWeights(replaces: ReplacedBlock | undefined): boolean {
  return replaces?.tier === "lowrank" && OWN_WEIGHTS in replaces.evidence;
}

/** In the evidence of a merge: the names of these weights. */
export const OWN_WEIGHTS = "own_weights";

async function withWeights({ blobs }: Repository, part: BlockPart, tensors: TensorEntry[]): Promise<BlockPart> {
  const graph = writeModel(await readGraphAlone(blobs.path(part.graph)), ({ name, data }) => {
    const tensor = tensors.find((one) => one.name === name);
    return tensor === undefined || data.kind !== "file"
      ? null
      : { location: digestHex(tensor.digest), offset: 0, length: tensor.bytes };
  });
  const stored = await blobs.put(graph, MEDIA_TYPES.graph);
  return { ...part, graph: stored.digest, graphBytes: stored.size, tensors };
}
