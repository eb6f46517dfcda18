import type { BlockChain, Chain } from "../chain/chain.ts";
import type { Plan } from "../chain/plan.ts";
import type { BlockSource } from "../chain/resolve-chain.ts";
import { isWebgpu } from "../engine/device/device.ts";
import { type CudaDevice, listCudaDevices } from "../engine/device/find-devices.ts";
import { cudaIndexOf } from "../engine/runners/cuda-placement.ts";
import type { PlannedBytes } from "../engine/memory/planned-bytes.ts";
import { WebgpuRunner } from "../engine/runners/webgpu-runner.ts";
import { BlockllmError } from "../support/errors.ts";
import { formatBytes, formatCount } from "./output/format.ts";
import { oneOf } from "./parse-values.ts";

export type PlannedDevice = "webgpu" | "webgpu:fp16" | "cuda";

export interface DevicePlanReport {
  name: PlannedDevice;
  /** Model → why it cannot run there. Nothing else of the plan counts it. */
  left_out: Record<string, string>;
  /** Of `cuda`: which segments go to which device, and what their sessions take there. */
  devices?: { name: string; segments: number[]; bytes: number; free_bytes: number }[];
}

export const PLANNED_DEVICE_OPTION = {
  flags: "--device <name>",
  help: "plan for webgpu, webgpu:fp16 or cuda: which models run there, and where their segments go (default: the CPU)",
  parse: oneOf<PlannedDevice>("--device", ["webgpu", "webgpu:fp16", "cuda"]),
};

/** Why a device cannot run some of the models, by their names. No device is opened. */
export async function leftOutOn(
  device: PlannedDevice,
  chains: readonly Chain[],
  source: BlockSource,
): Promise<Record<string, string>> {
  const runner = isWebgpu(device) ? new WebgpuRunner(source, { device, maxBatchTokens: 1 }) : null;
  const obstacle = async (chain: BlockChain): Promise<string | null> => (await runner?.obstacle(chain)) ?? null;
  const leftOut: Record<string, string> = {};
  for (const chain of chains) {
    const reason = chain.kind === "opaque" ? "it is not taken apart into blocks" : await obstacle(chain);
    if (reason !== null) leftOut[chain.name] = reason;
  }
  return leftOut;
}

/** Errors: device_unavailable where NVIDIA's driver lists none; memory_exceeded. */
export async function spreadOverCuda(
  plan: Plan,
  { bytesOf, listed = listCudaDevices() }: { bytesOf: PlannedBytes; listed?: readonly CudaDevice[] },
): Promise<NonNullable<DevicePlanReport["devices"]>> {
  if (listed.length === 0) {
    throw new BlockllmError("device_unavailable", "NVIDIA's driver lists no device to plan for", {
      hint: "blockllm doctor",
    });
  }
  const names = listed.map(({ index }) => `cuda:${index}` as const);
  const bytes = await Promise.all(plan.segments.map(bytesOf));
  const indexOf = cudaIndexOf(plan, names, { bytes, listed });
  return listed.map(({ index, name, freeBytes }) => {
    const own = plan.segments.map(({ id }) => id).filter((id) => indexOf[id] === index);
    const sum = own.reduce((taken, id) => taken + bytes[id]!, 0);
    return { name: `cuda:${index} ${name}`, segments: own, bytes: sum, free_bytes: freeBytes };
  });
}

/** For people. */
export function deviceFacts({ name, devices = [], left_out: leftOut }: DevicePlanReport): [string, string][] {
  return [
    ["device", name],
    ...devices.map(({ name: device, segments, bytes, free_bytes: free }): [string, string] => [
      device,
      `${formatCount(segments.length, "segment")}, ${formatBytes(bytes)} of ${formatBytes(free)} free`,
    ]),
    ...Object.entries(leftOut).map(([model, reason]): [string, string] => [`${model} left out`, reason]),
  ];
}
