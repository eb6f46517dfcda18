import { InferenceSession } from "onnxruntime-node";
import type { BlockPart } from "../../blocks/block.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import type { OnnxModel } from "../../onnx/model.ts";
import { readTensor, storedBytes } from "../../onnx/tensor-data.ts";
import { writeModel } from "../../onnx/write-model.ts";
import { runtimeOptions } from "./runtime-options.ts";
import { weightPlace } from "./weight-place.ts";

/** A serialised graph holds at most 2 GiB. */
const MOST_INSIDE_BYTES = 1.9 * 2 ** 30;
/** Constants up to this size stay in the graph. */
const CONSTANT_BYTES = 1024;

/** The graph of a part with every weight in memory that has no blob of its own: it lies as a residual and is rebuilt. */
export async function withRebuiltWeights(
  model: OnnxModel,
  part: Pick<BlockPart, "tensors">,
  blobs: BlockSource["blobs"],
): Promise<OnnxModel> {
  const initializers = new Map(model.graph.initializers);
  let rebuilt = 0;
  for (const { name, digest, bytes } of part.tensors) {
    const tensor = initializers.get(name);
    if (tensor === undefined || (await blobs.has(digest))) continue;
    initializers.set(name, { ...tensor, data: { kind: "bytes", bytes: await blobs.read(digest, bytes) } });
    rebuilt++;
  }
  return rebuilt === 0 ? model : { ...model, graph: { ...model.graph, initializers } };
}

/**
 * A session of a model made in memory. Weights that it holds go into its bytes; where that would be more than ONNX can,
 * ONNX Runtime gets all weights beside it (`AddExternalInitializersFromFilesInMemory`, which then looks for none in the
 * folder).
 */
export async function openSession(
  model: OnnxModel,
  {
    folder,
    threads,
    options = runtimeOptions(threads, folder),
    mostInside = MOST_INSIDE_BYTES,
  }: { folder: string; threads: number; options?: InferenceSession.SessionOptions; mostInside?: number },
): Promise<InferenceSession> {
  const inside = [...model.graph.initializers.values()].filter(({ data }) => data.kind === "bytes");
  if (inside.reduce((sum, tensor) => sum + storedBytes(tensor), 0) <= mostInside)
    return await InferenceSession.create(writeModel(model, weightPlace), options);
  const externalData: { path: string; data: Uint8Array }[] = [];
  const bytes = writeModel(model, (tensor) => {
    if (tensor.data.kind === "bytes" && tensor.data.bytes.length <= CONSTANT_BYTES) return null;
    const path = `weight-${externalData.length}`;
    const data = readTensor(tensor);
    externalData.push({ path, data });
    return { location: path, offset: 0, length: data.length };
  });
  return await InferenceSession.create(bytes, { ...options, externalData });
}
