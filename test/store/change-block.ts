import type { BlockDocument, TensorEntry } from "../../src/blocks/block.ts";
import { digestHex } from "../../src/fingerprint/digest.ts";
import { toFloats } from "../../src/fingerprint/element-stream.ts";
import { floatToHalf } from "../../src/onnx/numbers.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { MEDIA_TYPES } from "../../src/store/descriptor.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";
import type { Repository } from "../../src/store/repository.ts";

/** Puts a model that is `from` with other values in some weights of its blocks; null leaves a weight as it is. */
export async function putChanged(
  repository: Repository,
  { from, name }: { from: string; name: string },
  change: (values: Float32Array, tensor: TensorEntry, layer: number | null) => Float32Array | null,
): Promise<ModelDocument> {
  const { document } = await repository.readModel(from);
  const chain = [];
  for (const entry of document.chain) {
    const block = await changeBlock(repository, await repository.readBlock(entry.digest), (values, tensor) =>
      change(values, tensor, entry.layer),
    );
    const { digest } = await repository.putBlock(block);
    chain.push({ ...entry, digest });
  }
  return (await repository.putModel(name, { ...document, chain, warnings: [name] })).document;
}

async function changeBlock(
  { blobs }: Repository,
  block: BlockDocument,
  change: (values: Float32Array, tensor: TensorEntry) => Float32Array | null,
): Promise<BlockDocument> {
  const parts = [];
  for (const part of block.parts) {
    const tensors: TensorEntry[] = [];
    for (const tensor of part.tensors) {
      const bytes = await blobs.read(tensor.digest);
      const changed = change(toFloats(new Uint8Array(bytes), tensor.dtype), tensor);
      if (changed === null) tensors.push(tensor);
      else {
        const stored = tensor.dtype === "float16" ? Uint16Array.from(changed, floatToHalf) : changed.slice();
        const { digest } = await blobs.put(new Uint8Array(stored.buffer), MEDIA_TYPES.tensor);
        tensors.push({ ...tensor, digest });
      }
    }
    const graph = writeModel(await readModel(blobs.path(part.graph)), ({ name, data }) => {
      const tensor = tensors.find((one) => one.name === name);
      return tensor && data.kind === "file"
        ? { location: digestHex(tensor.digest), offset: 0, length: data.length }
        : null;
    });
    const stored = await blobs.put(graph, MEDIA_TYPES.graph);
    parts.push({ ...part, graph: stored.digest, graphBytes: stored.size, tensors });
  }
  return { ...block, parts };
}

/** values + a matrix of that rank, `relative` times as large as the values. */
export function addRank(
  values: Float32Array,
  [rows, columns]: readonly [number, number],
  { rank, relative, random }: { rank: number; relative: number; random: (count: number) => Float32Array },
): Float32Array {
  const [left, right] = [random(rows * rank), random(rank * columns)];
  const size = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  return values.map((value, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let i = 0; i < rank; i++) sum += left[row * rank + i]! * right[i * columns + column]!;
    return value + (relative * size * sum) / Math.sqrt(rank);
  });
}
