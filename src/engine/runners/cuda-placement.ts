import { placeSegments } from "../../chain/place-segments.ts";
import type { Plan } from "../../chain/plan.ts";
import type { Device } from "../device/device.ts";
import { type CudaDevice, listCudaDevices } from "../device/find-devices.ts";
import { cudaError } from "../execute/cuda-errors.ts";
import { cudaOptions } from "../execute/cuda-options.ts";
import type { SessionPlace, SessionSource } from "../execute/segment-session.ts";
import type { PlannedBytes } from "../memory/planned-bytes.ts";

/** Of a device's free memory: the rest is what its driver and its kernels' own workspaces need. */
const WEIGHTS_SHARE = 0.9;

/**
 * Spreads a plan's segments over CUDA devices; nothing to say where it stays on the CPU. `bytesOf`: what the session of a
 * segment takes. Error: memory_exceeded.
 */
export async function placement(
  plan: Plan,
  devices: readonly Device[],
  { bytesOf, list = listCudaDevices }: { bytesOf: PlannedBytes; list?: () => CudaDevice[] },
): Promise<Pick<SessionSource, "placed">> {
  if (!devices.some((device) => device.startsWith("cuda:"))) return {};
  const bytes = await Promise.all(plan.segments.map(bytesOf));
  const indexOf = cudaIndexOf(plan, devices, { bytes, listed: list() });
  return { placed: ({ id }) => cudaPlace(indexOf[id]!) };
}

/** Of this process, which has no second try at a device. */
const lost = new Set<number>();

function cudaPlace(index: number): SessionPlace {
  const name = `cuda:${index}`;
  return {
    name,
    options: (folder) => cudaOptions(index, folder),
    // cuBLAS chooses kernels by the number of rows, so each sequence has runs of its own.
    sharing: null,
    isLost: () => lost.has(index),
    diagnose: (error) => {
      const known = cudaError(error, name);
      if (known?.code === "device_lost") lost.add(index);
      return known;
    },
  };
}

/** By the segments' ids, the CUDA device that each goes to; a device that the driver does not list has room for all. */
export function cudaIndexOf(
  plan: Plan,
  devices: readonly Device[],
  { bytes, listed }: { bytes: readonly number[]; listed: readonly CudaDevice[] },
): number[] {
  const indices = devices.flatMap((device) => (device.startsWith("cuda:") ? [Number(device.slice(5))] : []));
  const free = indices.map((index) => listed.find((device) => device.index === index)?.freeBytes ?? Infinity);
  const capacities = free.map((one) => Math.floor(one * WEIGHTS_SHARE));
  return placeSegments(plan, capacities, bytes).map((device) => indices[device]!);
}
