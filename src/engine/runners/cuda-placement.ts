import { placeSegments } from "../../chain/place-segments.ts";
import type { Plan } from "../../chain/plan.ts";
import type { Device } from "../device/device.ts";
import { listCudaDevices } from "../device/find-devices.ts";
import { cudaOptions } from "../execute/cuda-options.ts";
import type { SessionSource } from "../execute/segment-session.ts";

/** Of a device's free memory, for weights: the rest is what runs need beside them. */
const WEIGHTS_SHARE = 0.9;

/** Spreads a plan's segments over CUDA devices; nothing to say where it stays on the CPU. Error: memory_exceeded. */
export function placement(plan: Plan, devices: readonly Device[]): Pick<SessionSource, "placed"> {
  const indices = devices.flatMap((device) => (device.startsWith("cuda:") ? [Number(device.slice(5))] : []));
  if (indices.length === 0) return {};
  const listed = listCudaDevices();
  const free = indices.map((index) => listed.find((device) => device.index === index)?.freeBytes ?? Infinity);
  const deviceOf = placeSegments(
    plan,
    free.map((bytes) => bytes * WEIGHTS_SHARE),
  );
  return {
    placed: ({ id }) => {
      const index = indices[deviceOf[id]!]!;
      // cuBLAS chooses kernels by the number of rows, so each sequence has runs of its own.
      return { name: `cuda:${index}`, options: (folder) => cudaOptions(index, folder), rowInvariant: false };
    },
  };
}
