import { InferenceSession, Tensor } from "onnxruntime-node";

import type { CutBlock } from "../../src/blocks/cut-model.ts";
import { emitPart, withWeights } from "../../src/blocks/emit-part.ts";
import type { RowProgram } from "../../src/canonical/rows.ts";
import { rotaryRows } from "../../src/chain/rotary-rows.ts";
import type { TensorInfo } from "../../src/onnx/model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { weightBytesOf } from "./row-interpreter.ts";

/** A part with one input, the row `hidden`, in ONNX Runtime: the rows of `output`, one behind the other. */
export async function runPart(
  program: RowProgram,
  { hidden, output, rows, positions }: { hidden: number; output: number; rows: Float64Array[]; positions: number[] },
): Promise<Float32Array> {
  const rotary = program.nodes.find(({ op }) => op === "rotary") ?? null;
  const block: CutBlock = {
    kind: "mlp",
    layer: 0,
    core: null,
    rotary,
    parts: [{ role: "main", inputs: new Map([[hidden, "hidden"]]), outputs: [{ port: "hidden_out", node: output }] }],
  };
  const emitted = emitPart(program, block, block.parts[0]!);
  const bytes = new Map<string, Uint8Array>();
  for (const [name, weight] of emitted.weights) bytes.set(name, await weightBytesOf(weight));
  const model = withWeights(emitted, (name, weight): TensorInfo => ({
    name,
    dtype: weight.tensor.dtype,
    dims: weight.dims,
    data: { kind: "bytes", bytes: bytes.get(name)! },
  }));
  const session = await InferenceSession.create(writeModel(model), { logSeverityLevel: 3, intraOpNumThreads: 1 });
  const feeds: Record<string, Tensor> = {};
  for (const { name } of emitted.inputs) {
    if (name === "hidden")
      feeds[name] = new Tensor("float32", Float32Array.from(rows.flatMap((row) => [...row])), [
        1,
        rows.length,
        program.width(hidden),
      ]);
    else
      feeds[name] = new Tensor(
        "float32",
        rotaryRows(rotary!.attributes.rotary!, positions, null)[name as "cos" | "sin"],
        [1, rows.length, 2],
      );
  }
  const results = await session.run(feeds);
  const data = (results["hidden_out"]!.data as Float32Array).slice();
  await session.release();
  return data;
}
