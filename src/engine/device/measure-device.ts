import { InferenceSession, Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../blocks/block.ts";
import { writeModel } from "../../onnx/write-model.ts";
import { BlockllmError } from "../../support/errors.ts";
import { SeededRandom } from "../execute/random.ts";
import { runtimeOptions } from "../execute/runtime-options.ts";
import { DeviceCores } from "../execute/webgpu/device-cores.ts";
import { DeviceTensors, node, toolModel } from "../execute/webgpu/device-tensors.ts";
import { computesHalf, noHalf } from "../execute/webgpu/half-floats.ts";
import { chunkRows } from "../execute/webgpu/measure-device.ts";
import { webgpuOptions } from "../execute/webgpu/webgpu-options.ts";
import { cudaOptions } from "../execute/cuda-options.ts";
import { isWebgpu, type Device } from "./device.ts";

const ROWS = 16;
const WIDTH = 1024;
const LARGEST_ERROR = 1e-2;
const TIMED_RUNS = 5;
/** So many times slower than the CPU is slower without measuring on. */
const HOPELESS = 10;

const CORE: CoreSpec = {
  heads: 4,
  kvHeads: 2,
  headSize: 64,
  valueHeadSize: 64,
  scale: 0.125,
  softcap: null,
  window: null,
  alibiSlopes: null,
  sinks: null,
};

export interface Measured {
  /** How many times faster than the CPU it multiplies 16 rows by a matrix; below 1 it is slower. */
  speedup: number;
  /** Of WebGPU: does it compute with float16? */
  half?: boolean;
}

/** Error: device_unavailable where its numbers are wrong, or where it does not compute with float16 as was asked. */
export async function measureDevice(device: Device): Promise<Measured> {
  const [weight, x] = [randomNumbers(WIDTH * WIDTH, 1), randomNumbers(ROWS * WIDTH, 2)];
  const host = await timeProduct(runtimeOptions(0), { weight, x });
  const own = await timeProduct(optionsOf(device), { weight, x, enough: host.milliseconds * HOPELESS });
  const error = own.product.reduce((most, value, at) => {
    const difference = Math.abs(value - host.product[at]!);
    return Math.max(most, Number.isNaN(difference) ? Infinity : difference);
  }, 0);
  if (error > LARGEST_ERROR) {
    throw new BlockllmError(
      "device_unavailable",
      `it multiplies wrong: a number is off by ${error.toPrecision(2)}, the limit is ${LARGEST_ERROR}`,
    );
  }
  const speedup = host.milliseconds / own.milliseconds;
  if (!isWebgpu(device)) return { speedup };
  await attend();
  const half = await computesHalf();
  if (device === "webgpu:fp16" && !half) throw noHalf();
  return { speedup, half };
}

function optionsOf(device: Device): InferenceSession.SessionOptions {
  if (device === "cpu") return runtimeOptions(0);
  return isWebgpu(device) ? webgpuOptions({ y: "host" }) : cudaOptions(Number(device.slice("cuda:".length)));
}

async function timeProduct(
  options: InferenceSession.SessionOptions,
  { weight, x, enough = Infinity }: { weight: Float32Array; x: Float32Array; enough?: number },
): Promise<{ product: Float32Array; milliseconds: number }> {
  const rows = { name: "x", dtype: "float32" as const, dims: [ROWS, WIDTH] };
  const matrix = { name: "w", dtype: "float32" as const, dims: [WIDTH, WIDTH] };
  const model = toolModel([rows], [node("MatMul", ["x", "w"], ["y"])], [{ ...rows, name: "y" }]);
  model.graph.initializers.set("w", { ...matrix, data: { kind: "bytes", bytes: new Uint8Array(weight.buffer) } });
  const session = await InferenceSession.create(writeModel(model), options);
  const feeds = { x: new Tensor("float32", x, [ROWS, WIDTH]) };
  let milliseconds = Infinity;
  let product = new Float32Array(0);
  for (let run = 0; run <= TIMED_RUNS; run++) {
    if (run > 1 && milliseconds > enough) break;
    const began = performance.now();
    product = (await session.run(feeds))["y"]!.data as Float32Array<ArrayBuffer>;
    // The first run compiles what later ones reuse.
    if (run > 0) milliseconds = Math.min(milliseconds, performance.now() - began);
  }
  await session.release();
  return { product, milliseconds };
}

async function attend(): Promise<void> {
  const tensors = await DeviceTensors.open();
  const cores = new DeviceCores(tensors);
  await cores.open(CORE);
  await chunkRows(CORE, cores, tensors);
  await cores.close();
  await tensors.close();
}

function randomNumbers(length: number, seed: number): Float32Array<ArrayBuffer> {
  const random = new SeededRandom(seed);
  return Float32Array.from({ length }, () => random.next() - 0.5);
}
