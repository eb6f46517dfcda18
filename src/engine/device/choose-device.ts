import { BlockllmError } from "../../support/errors.ts";
import { isWebgpu, type Device, type DeviceWish } from "./device.ts";
import { cudaInstallLine, hasCudaLibraries, listCudaDevices, mayHaveGpu } from "./find-devices.ts";
import { graphicsMemory } from "./graphics-memory.ts";
import { testDevice, type DeviceTest } from "./test-device.ts";

/** What the choice is made from; tests bring their own. */
export interface DeviceFacts {
  mayHaveGpu(): boolean;
  hasCudaLibraries(): boolean;
  cudaIndices(): number[];
  graphicsMemory(): number | null;
  test(device: Device): Promise<DeviceTest>;
}

export interface DeviceChoice {
  /** More than one: the plan is spread over all of them. */
  devices: [Device, ...Device[]];
  /** Why these, for people. */
  reason: string;
  /** Devices that were tried and left out. */
  warnings: string[];
  /** What a graphics device gives to weights, keys and values where nobody says; missing: the machine's memory counts. */
  memoryBytes?: number;
}

const MACHINE: DeviceFacts = {
  mayHaveGpu,
  hasCudaLibraries,
  cudaIndices: () => listCudaDevices().map(({ index }) => index),
  graphicsMemory,
  test: testDevice,
};

/** Tests what was asked for, or with `auto` all there is, and takes the fastest. Error: device_unavailable. */
export async function chooseDevice(wish: DeviceWish, facts = MACHINE): Promise<DeviceChoice> {
  const choice = await choose(wish, facts);
  const memoryBytes = isWebgpu(choice.devices[0]) ? facts.graphicsMemory() : null;
  return memoryBytes === null ? choice : { ...choice, memoryBytes };
}

async function choose(wish: DeviceWish, facts: DeviceFacts): Promise<DeviceChoice> {
  if (wish === "cpu") return { devices: ["cpu"], reason: "asked for", warnings: [] };
  if (wish === "auto") return await chooseFastest(facts);
  const devices = devicesOf(wish, facts);
  for (const device of devices) {
    const test = await facts.test(device);
    if (!test.passed) throw unavailable(device, test.reason);
  }
  return { devices, reason: "asked for", warnings: [] };
}

async function chooseFastest(facts: DeviceFacts): Promise<DeviceChoice> {
  if (!facts.mayHaveGpu()) return { devices: ["cpu"], reason: "no graphics device is here", warnings: [] };
  const warnings: string[] = [];
  let best: DeviceTest & { passed: true } = { device: "cpu", passed: true, speedup: 1 };
  const slower: string[] = [];
  for (const device of facts.hasCudaLibraries() ? (["webgpu", "cuda:0"] as const) : (["webgpu"] as const)) {
    const test = await facts.test(device);
    if (!test.passed) warnings.push(`${device} is left out: ${test.reason}`);
    else if (test.speedup > best.speedup) best = test;
    else slower.push(`${device} has ${test.speedup.toPrecision(2)} times the speed of ${best.device}`);
  }
  const reason =
    best.device === "cpu"
      ? (slower[0] ?? "no other device passed its test")
      : `it multiplies ${best.speedup.toFixed(1)} times as fast as the CPU`;
  return { devices: [best.device], reason, warnings };
}

function devicesOf(wish: Exclude<DeviceWish, "auto" | "cpu">, facts: DeviceFacts): [Device, ...Device[]] {
  if (isWebgpu(wish)) return [wish];
  if (!facts.hasCudaLibraries()) {
    const line = cudaInstallLine();
    throw new BlockllmError("device_unavailable", "The CUDA libraries of ONNX Runtime are not installed", {
      hint: line ?? "ONNX Runtime has them for Linux on x64 only: --device webgpu",
    });
  }
  if (wish !== "cuda") return [wish];
  const [first = 0, ...others] = facts.cudaIndices();
  return [`cuda:${first}`, ...others.map((index): Device => `cuda:${index}`)];
}

function unavailable(device: Device, reason: string): BlockllmError {
  return new BlockllmError("device_unavailable", `${device} cannot be used: ${reason}`, {
    hint: "`blockllm doctor` says what is missing, --device cpu needs nothing",
  });
}
