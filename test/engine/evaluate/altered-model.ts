import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import proto from "onnx-proto";

import { FIXTURES } from "../../blocks/split-fixtures.ts";

/** Weights of one layer of a desk model, [in, out] row by row; changing them changes the model. */
export interface LayerWeights {
  q: Float32Array;
  k: Float32Array;
  v: Float32Array;
  o: Float32Array;
  gate: Float32Array;
  up: Float32Array;
  down: Float32Array;
}

export const HIDDEN = 64;
export const NEURONS = 176;
const LINEARS = ["q", "k", "v", "o", "gate", "up", "down"] as const;
const { onnx } = proto;

/** A copy of a desk model with other weights, as a folder of its own. */
export async function alterModel(
  from: string,
  { into, name, change }: { into: string; name: string; change: (layers: LayerWeights[]) => void },
): Promise<string> {
  const [original, folder] = [join(FIXTURES, "desk/optimum", from), join(into, name)];
  await mkdir(folder, { recursive: true });
  await cp(original, folder, { recursive: true });
  const model = onnx.ModelProto.decode(await readFile(join(original, "model.onnx")));
  // The exporter writes the linears in the order in which a token meets them.
  const matrices = model.graph!.initializer!.filter((tensor) => tensor.name!.startsWith("onnx::MatMul_"));
  const weights = matrices.map((tensor) => {
    const bytes = Uint8Array.from(tensor.rawData!);
    tensor.rawData = bytes;
    return new Float32Array(bytes.buffer);
  });
  const layers = Array.from({ length: weights.length / LINEARS.length }, (_, layer) =>
    Object.fromEntries(LINEARS.map((linear, at) => [linear, weights[layer * LINEARS.length + at]!])),
  );
  change(layers as unknown as LayerWeights[]);
  await writeFile(join(folder, "model.onnx"), onnx.ModelProto.encode(model).finish());
  return folder;
}
