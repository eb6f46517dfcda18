import { Tensor } from "onnxruntime-node";
import type { CoreSpec, Port } from "../../../blocks/block.ts";
import { ADAPTER_INPUT } from "../../../chain/attach-factors.ts";
import type { Segment } from "../../../chain/plan.ts";
import { BlockllmError } from "../../../support/errors.ts";
import { SeededRandom } from "../random.ts";
import type { DeviceCores } from "./device-cores.ts";
import type { DeviceSession } from "./device-session.ts";
import type { DeviceTensors } from "./device-tensors.ts";
import { hostAttention } from "./host-attention.ts";
import { KvSlab } from "./kv-slab.ts";

/** Query rows of one call for a prompt, as many as possible first. */
const CHUNK_ROWS = [64, 16];
const PAST = 24;
const LARGEST_ERROR = 1e-3;

/**
 * How many query rows of a prompt one call may take. The kernel for 32 rows and more is wrong, without any error, where
 * subgroups are narrow (SwiftShader: four lanes), so every kind of core is computed and compared before it is used.
 * Error: device_unavailable where no number of rows gives the right attention.
 */
export async function chunkRows(core: CoreSpec, device: DeviceCores, tensors: DeviceTensors): Promise<number> {
  let error = 0;
  for (const rows of CHUNK_ROWS) {
    error = await attentionError(core, rows, { device, tensors });
    if (error <= LARGEST_ERROR) return rows;
  }
  throw new BlockllmError(
    "device_unavailable",
    `attention on the WebGPU device is off by ${error.toPrecision(2)}, the limit is ${LARGEST_ERROR}`,
    { hint: "--device cpu" },
  );
}

/** Largest difference between device and host over a past and a chunk behind it. */
async function attentionError(
  core: CoreSpec,
  rows: number,
  { device, tensors }: { device: DeviceCores; tensors: DeviceTensors },
): Promise<number> {
  const { heads, kvHeads, headSize } = core;
  const count = PAST + rows;
  const [q, k, v] = [heads, kvHeads, kvHeads].map((of, at) => randomRows(count * of * headSize, at + 1)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const expected = hostAttention(core, { q, k, v });
  const slab = await KvSlab.make([core], { capacity: count, slots: 1 }, tensors);
  const feeds = {
    q: new Tensor("float32", q, [1, count, heads * headSize]),
    k: new Tensor("float32", k, [1, count, kvHeads * headSize]),
    v: new Tensor("float32", v, [1, count, kvHeads * headSize]),
    layer: slab.layers[0]!,
  };
  let most = 0;
  try {
    for (let from = 0; from < count;) {
      const to = from < PAST ? Math.min(PAST, from + CHUNK_ROWS.at(-1)!) : count;
      const own = Array.from({ length: to - from }, (_, row) => from + row);
      const o = await device.attend(core, { ...feeds, rows: own, last: [to - 1], total: to });
      const given = await tensors.download(o.tensor);
      o.free();
      given.forEach((value, at) => {
        const difference = Math.abs(value - expected[from * heads * headSize + at]!);
        most = Math.max(most, Number.isNaN(difference) ? Infinity : difference);
      });
      from = to;
    }
    return most;
  } finally {
    slab.dispose();
  }
}

/** Row counts that take different kernels: one row, few, a tile, more than a tile. */
const COMPARED_ROWS = [2, 5, 16, 33, 64];

/** Equal for segments whose kernels are chosen alike: the same operands in everything but their values. */
export function shapeKey({ inputs, outputs, adapters, parts }: Segment): string {
  const tensors = parts.map((part) => part.tensors.map(({ name, dtype, dims }) => [name, dtype, dims]));
  return JSON.stringify([inputs, outputs, adapters.length, tensors]);
}

/**
 * Does a row get the same bits whatever rows are beside it? Which kernel multiplies depends on the number of rows and
 * on the device, so it is measured.
 */
export async function isRowInvariantOn(session: DeviceSession, tensors: DeviceTensors): Promise<boolean> {
  const { inputs, outputs: ports, adapters } = session.segment;
  const run = async (rows: number): Promise<Float32Array[]> => {
    const feeds = Object.fromEntries(inputs.map((port) => [port.name, lastRowSame(port, rows)]));
    if (adapters.length > 0) feeds[ADAPTER_INPUT] = new Tensor("int64", new BigInt64Array(rows), [1, rows]);
    const outputs = await session.run(feeds);
    const last: Float32Array[] = [];
    for (const { name, width } of ports) {
      const tensor = outputs[name]!;
      const values = tensor.location === "cpu" ? (tensor.data as Float32Array) : await tensors.download(tensor);
      last.push(values.slice(-width));
      tensor.dispose();
    }
    return last;
  };
  const alone = await run(1);
  for (const rows of COMPARED_ROWS) {
    const beside = await run(rows);
    if (alone.some((values, port) => values.some((value, at) => !Object.is(value, beside[port]![at])))) return false;
  }
  return true;
}

/** The last row is the same for every number of rows. */
function lastRowSame({ name, width }: Port, rows: number): Tensor {
  if (name === "ids" || name === "positions") return new Tensor("int64", new BigInt64Array(rows).fill(1n), [1, rows]);
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) values.set(randomRows(width, rows - row), row * width);
  return new Tensor("float32", values, [1, rows, width]);
}

function randomRows(length: number, seed: number): Float32Array {
  const random = new SeededRandom(seed);
  return Float32Array.from({ length }, () => random.next() - 0.5);
}
