import { placeSegments } from "../../chain/place-segments.ts";
import type { Plan } from "../../chain/plan.ts";
import type { Device } from "../device/device.ts";
import { type CudaDevice, listCudaDevices } from "../device/find-devices.ts";
import { cudaOptions } from "../execute/cuda-options.ts";
import type { SessionSource } from "../execute/segment-session.ts";

/** Of a device's free memory, for weights: the rest is what runs need beside them. */
const WEIGHTS_SHARE = 0.9;

/** Spreads a plan's segments over CUDA devices; nothing to say where it stays on the CPU. Error: memory_exceeded. */
export function placement(
  plan: Plan,
  devices: readonly Device[],
  list: () => CudaDevice[] = listCudaDevices,
): Pick<SessionSource, "placed"> {
  if (!devices.some((device) => device.startsWith("cuda:"))) return {};
  const indexOf = cudaIndexOf(plan, devices, list());
  return {
    placed: ({ id }) => {
      const index = indexOf[id]!;
      // cuBLAS chooses kernels by the number of rows, so each sequence has runs of its own.
      return { name: `cuda:${index}`, options: (folder) => cudaOptions(index, folder), sharing: null };
    },
  };
}

/** By the segments' ids, the CUDA device that each goes to; a device that the driver does not list has room for all. */
export function cudaIndexOf(plan: Plan, devices: readonly Device[], listed: readonly CudaDevice[]): number[] {
  const indices = devices.flatMap((device) => (device.startsWith("cuda:") ? [Number(device.slice(5))] : []));
  const free = indices.map((index) => listed.find((device) => device.index === index)?.freeBytes ?? Infinity);
  const deviceOf = placeSegments(
    plan,
    free.map((bytes) => Math.floor(bytes * WEIGHTS_SHARE)),
  );
  return deviceOf.map((device) => indices[device]!);
}
