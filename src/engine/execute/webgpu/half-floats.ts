import { InferenceSession, Tensor } from "onnxruntime-node";
import { writeModel } from "../../../onnx/write-model.ts";
import { BlockllmError } from "../../../support/errors.ts";
import { node, toolModel } from "./device-tensors.ts";
import { webgpuOptions } from "./webgpu-options.ts";

/** Does the device compute with float16 numbers? Its adapter need not: WebGPU calls that `shader-f16`. */
export async function computesHalf(): Promise<boolean> {
  const floats = (name: string) => ({ name, dtype: "float32" as const, dims: ["N"] });
  const to = (type: number) => ({ to: { kind: "int" as const, value: type } });
  const nodes = [node("Cast", ["x"], ["half"], to(10)), node("Cast", ["half"], ["y"], to(1))];
  const model = writeModel(toolModel([floats("x")], nodes, [floats("y")]));
  const session = await InferenceSession.create(model, webgpuOptions({ y: "host" }));
  try {
    const { y } = await session.run({ x: new Tensor("float32", Float32Array.of(1.0001), [1]) });
    return y!.data[0] === 1;
  } catch {
    return false;
  } finally {
    await session.release();
  }
}

export function noHalf(): BlockllmError {
  return new BlockllmError("device_unavailable", "the device does not compute with float16 (shader-f16)", {
    hint: "--device webgpu",
  });
}
