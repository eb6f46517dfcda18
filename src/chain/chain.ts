import type { LowRankFactors } from "../blocks/adapter.ts";
import type { BlockPart, CoreSpec, Digest, OpaqueSpec, Port, RotarySpec, TensorEntry } from "../blocks/block.ts";
import type { ModelDocument } from "../store/model-document.ts";

/** A model made runnable: its blocks opened into steps, in the order tokens go through them, every port checked. */
export type Chain = BlockChain | OpaqueChain;

export interface BlockChain {
  kind: "blocks";
  name: string;
  /** A name means other models at other times; equal keys are the same name and the same document. */
  key: string;
  document: ModelDocument;
  steps: ChainStep[];
  /** The cores of `steps`, by their layer. */
  cores: CoreSpec[];
}

/** A model that could not be cut: one graph that keeps its own state. */
export interface OpaqueChain {
  kind: "opaque";
  name: string;
  key: string;
  document: ModelDocument;
  part: ChainPart;
  spec: OpaqueSpec;
}

export type ChainStep =
  | { kind: "part"; part: ChainPart }
  /** `layer` counts cores from 0 and numbers the caches of a sequence. */
  | { kind: "core"; layer: number; core: CoreSpec };

/** A row-wise part as one chain uses it. Equal `graph` digests compute the same function of the same weights. */
export interface ChainPart extends BlockPart {
  /** Where it sits, for messages: "attention of layer 3 (in)". */
  label: string;
  /** How this chain makes the `cos` and `sin` rows; null where the part takes none. */
  rotary: RotarySpec | null;
  /** What this chain adds to the part's projections; empty: nothing. */
  factors: LowRankFactors[];
  /** Where only some nodes of a stored part: then `graph` says which and of what weights, and names no blob. */
  cut?: PartCut;
}

/** Nodes [from, to) of the part that is stored as `of`. */
export interface PartCut {
  of: Digest;
  from: number;
  to: number;
  /** What the whole part takes and gives, and what its values are called after. */
  whole: Pick<BlockPart, "inputs" | "outputs"> & { name: string };
  /** Ports between runs that runs further on still take. */
  live: Port[];
}

/** Bytes of cached keys and values that one token of a sequence holds, over all layers. */
export function keyValueBytesPerToken(chain: BlockChain): number {
  return chain.cores.reduce((sum, core) => sum + 4 * core.kvHeads * (core.headSize + core.valueHeadSize), 0);
}

/** One scale for the activations of all rows of a call (DynamicQuantizeLinear): only whole prompts give the file's numbers. */
export function scalesByCall({ precision }: ModelDocument): boolean {
  return precision.includes("dynamic");
}

/** Blobs a part loads: its graph first, then every weight. */
export function partBlobs(part: ChainPart): Digest[] {
  return [storedGraph(part), ...[...part.tensors, ...factorTensors(part.factors)].map((tensor) => tensor.digest)];
}

/** The blob with the part's graph. */
export function storedGraph({ graph, cut }: ChainPart): Digest {
  return cut?.of ?? graph;
}

export function factorTensors(factors: readonly LowRankFactors[]): TensorEntry[] {
  return factors.flatMap(({ down, up }) => [down, up]);
}
