import { createReadStream, statSync } from "node:fs";

import type { AdapterDocument, AdapterEntry, AdapterPart } from "../blocks/adapter.ts";
import type { BlockDocument, BlockPart, RotarySpec, TensorEntry } from "../blocks/block.ts";
import type { CutBlock } from "../blocks/cut-model.ts";
import { withWeights, type EmittedPart } from "../blocks/emit-part.ts";
import type { TakenApart } from "../blocks/take-apart.ts";
import { weightBytes } from "../canonical/weight-bytes.ts";
import { describeWeight, wholeWeight, type Weight } from "../canonical/weights.ts";
import { digestBytes, digestHex } from "../fingerprint/digest.ts";
import type { OnnxModel, TensorInfo } from "../onnx/model.ts";
import { writeModel } from "../onnx/write-model.ts";
import type { BlobStore } from "./blob-store.ts";
import { type Descriptor, MEDIA_TYPES } from "./descriptor.ts";
import type { ChainEntry, ModelDocument } from "./model-document.ts";
import { adapterReferences, blockReferences } from "./references.ts";
import type { Repository } from "./repository.ts";
import { addSketches } from "./sketch-file.ts";
import { WeightSketches } from "./sketch-weights.ts";
import type { SourceModel } from "./source-folder.ts";

export interface StoreProgress {
  /** Bytes of weights hashed and stored so far, and in all. */
  bytes: number;
  totalBytes: number;
}

export interface StoreContext {
  repository: Repository;
  blobs: BlobStore;
  signal?: AbortSignal;
  onProgress?: (progress: StoreProgress) => void;
}

/** A block before it is stored: its digests are known, its bytes are not on disk. */
interface Draft {
  layer: number | null;
  document: BlockDocument;
  graphs: Uint8Array[];
  adapter: AdapterDocument | null;
  sketch: Uint32Array;
}

interface DrawnPart {
  part: BlockPart;
  graph: Uint8Array;
}

/** Where a weight came to lie. */
type Placed = Omit<TensorEntry, "name">;

/** Stores weights, then the graphs that name them, then the block documents that name those; gives the chain. */
export async function storeBlocks(
  context: StoreContext,
  blocks: (TakenApart & { kind: "cut" })["blocks"],
): Promise<ChainEntry[]> {
  const weights = blocks.flatMap(({ cut, parts }) => [
    ...parts.flatMap((part) => [...part.weights.values(), ...part.factors.flatMap(({ down, up }) => [down, up])]),
    ...tableWeights(cut),
  ]);
  const sketches = new WeightSketches(blocks.map(({ parts }) => weightsOf(parts)));
  const placed = await storeWeights(context, weights, sketches);
  const drafts = blocks.map(({ cut, parts }): Draft => {
    const drawn = parts.map((part) => drawPart(part, placed));
    const document: BlockDocument = {
      version: 1,
      kind: cut.kind,
      parts: drawn.map(({ part }) => part),
      core: cut.core,
      rotary: rotaryOf(cut, placed),
      opaque: null,
    };
    return {
      layer: cut.layer,
      document,
      graphs: drawn.map(({ graph }) => graph),
      adapter: drawAdapter(parts, placed),
      sketch: sketches.of(weightsOf(parts)),
    };
  });
  return await storeDrafts(context, drafts);
}

/** An opaque model is one block: its graph as it came, its large constants as tensors. */
export async function storeOpaque(
  context: StoreContext,
  { model, spec }: TakenApart & { kind: "opaque" },
): Promise<ChainEntry[]> {
  const large = [...model.graph.initializers.values()].filter(
    ({ data }) => data.kind === "file" || data.bytes.length > INLINE_BYTES,
  );
  const weights = large.map(wholeWeight);
  const sketches = new WeightSketches([weights]);
  const placed = await storeWeights(context, weights, sketches);
  const tensors = large.map((tensor) => ({ name: tensor.name, ...placed.get(describeWeight(wholeWeight(tensor)))! }));
  const { part, graph } = drawGraph({ role: "main", inputs: [], outputs: [] }, { model, tensors });
  const document: BlockDocument = {
    version: 1,
    kind: "opaque",
    parts: [part],
    core: null,
    rotary: null,
    opaque: spec,
  };
  return await storeDrafts(context, [
    { layer: null, document, graphs: [graph], adapter: null, sketch: sketches.of(weights) },
  ]);
}

/** Constants up to this size stay in the graph. */
const INLINE_BYTES = 1024;

export async function storeFiles(
  { blobs, signal }: StoreContext,
  files: SourceModel["files"],
): Promise<ModelDocument["files"]> {
  const sources = files.map(({ path }) => ({
    mediaType: MEDIA_TYPES.file,
    size: statSync(path).size,
    stream: () => createReadStream(path),
  }));
  const stored = await blobs.putMany(sources, signal === undefined ? {} : { signal });
  return files.map(({ name }, i) => ({ name, digest: stored[i]!.digest, bytes: stored[i]!.size }));
}

async function storeWeights(
  { blobs, signal, onProgress }: StoreContext,
  weights: Weight[],
  sketches: WeightSketches,
): Promise<Map<string, Placed>> {
  const distinct = [...new Map(weights.map((weight) => [describeWeight(weight), weight]))];
  const totalBytes = distinct.reduce((sum, [, weight]) => sum + weightBytes(weight), 0);
  const sources = distinct.map(([, weight]) => ({
    mediaType: MEDIA_TYPES.tensor,
    size: weightBytes(weight),
    stream: () => sketches.stream(weight),
  }));
  const stored = await blobs.putMany(sources, {
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress: ({ bytes }) => onProgress({ bytes, totalBytes }) }),
  });
  return new Map(
    distinct.map(([key, weight], i) => [
      key,
      { digest: stored[i]!.digest, dtype: weight.tensor.dtype, dims: weight.dims, bytes: stored[i]!.size },
    ]),
  );
}

function weightsOf(parts: EmittedPart[]): Weight[] {
  return parts.flatMap((part) => [...part.weights.values()]);
}

function drawPart(part: EmittedPart, placed: Map<string, Placed>): DrawnPart {
  const tensors = Array.from(part.weights, ([name, weight]) => ({
    name,
    ...placed.get(describeWeight(weight))!,
    dims: weight.dims,
  }));
  const model = withWeights(part, (name, weight) => ({
    name,
    dtype: weight.tensor.dtype,
    dims: weight.dims,
    data: { kind: "bytes", bytes: new Uint8Array() },
  }));
  return drawGraph(part, { model, tensors });
}

function drawAdapter(parts: EmittedPart[], placed: Map<string, Placed>): AdapterDocument | null {
  const drawn = parts.flatMap(({ role, factors }): AdapterPart[] =>
    factors.length === 0
      ? []
      : [
          {
            role,
            factors: factors.map(({ weight, down, up, scale }) => ({
              weight,
              down: { name: "down", ...placed.get(describeWeight(down))!, dims: down.dims },
              up: { name: "up", ...placed.get(describeWeight(up))!, dims: up.dims },
              scale,
            })),
          },
        ],
  );
  return drawn.length === 0 ? null : { version: 1, parts: drawn };
}

function drawGraph(
  ports: Pick<BlockPart, "role" | "inputs" | "outputs">,
  { model, tensors }: { model: OnnxModel; tensors: TensorEntry[] },
): DrawnPart {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const place = ({ name }: TensorInfo): { location: string; offset: number; length: number } | null => {
    const tensor = byName.get(name);
    return tensor === undefined ? null : { location: digestHex(tensor.digest), offset: 0, length: tensor.bytes };
  };
  const graph = writeModel(model, place);
  const part = {
    role: ports.role,
    graph: digestBytes(graph),
    graphBytes: graph.byteLength,
    inputs: ports.inputs,
    outputs: ports.outputs,
    tensors,
  };
  return { part, graph };
}

/** In two batches, since each call of the store ends with the disk: one by one, 150 small files took as long as 540 MB. */
async function storeDrafts({ repository, blobs, signal }: StoreContext, drafts: Draft[]): Promise<ChainEntry[]> {
  const graphs = drafts.flatMap((draft) => draft.graphs);
  const sources = graphs.map((graph) => ({ mediaType: MEDIA_TYPES.graph, stream: () => [graph] }));
  await blobs.putMany(sources, signal === undefined ? {} : { signal });
  const documents = drafts.map(({ document }) => document);
  const stored = await repository.putBlocks(documents, signal);
  await addSketches(repository.blobs.folder, new Map(drafts.map(({ sketch }, i) => [stored[i]!.digest, sketch])));
  const adapters = await storeAdapters(repository, drafts, signal);
  return drafts.map((draft, i) => {
    const adapter = adapters.get(draft);
    return {
      kind: draft.document.kind,
      layer: draft.layer,
      digest: stored[i]!.digest,
      bytes: bytesOf(blockReferences(draft.document)),
      ...(adapter === undefined ? {} : { adapter }),
    };
  });
}

async function storeAdapters(
  repository: Repository,
  drafts: Draft[],
  signal: AbortSignal | undefined,
): Promise<Map<Draft, AdapterEntry>> {
  const adapted = drafts.filter((draft): draft is Draft & { adapter: AdapterDocument } => draft.adapter !== null);
  const stored = await repository.putAdapters(
    adapted.map(({ adapter }) => adapter),
    signal,
  );
  return new Map(
    adapted.map((draft, i) => [draft, { digest: stored[i]!.digest, bytes: bytesOf(adapterReferences(draft.adapter)) }]),
  );
}

function bytesOf(references: Descriptor[]): number {
  const blobs = new Map(references.map(({ digest, size }) => [digest, size]));
  return [...blobs.values()].reduce((sum, size) => sum + size, 0);
}

function tableWeights({ rotary }: CutBlock): Weight[] {
  const tables = rotary?.attributes.rotaryTables;
  return tables === undefined ? [] : [tables.cos, tables.sin];
}

function rotaryOf({ rotary }: CutBlock, placed: Map<string, Placed>): RotarySpec | null {
  const specification = rotary?.attributes.rotary ?? null;
  const tables = rotary?.attributes.rotaryTables;
  if (specification === null || tables === undefined) return specification;
  const entry = (name: string, weight: Weight): TensorEntry => ({ name, ...placed.get(describeWeight(weight))! });
  return {
    ...specification,
    frequencies: { kind: "table", cos: entry("cos", tables.cos), sin: entry("sin", tables.sin) },
  };
}
