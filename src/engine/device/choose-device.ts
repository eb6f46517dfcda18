import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import { cudaInstallLine, hasCudaLibraries } from "./cuda-libraries.ts";
import { isWebgpu, type Device, type DeviceWish } from "./device.ts";
import { listCudaDevices, mayHaveGpu } from "./find-devices.ts";
import { type GraphicsMemory, graphicsMemory } from "./graphics-memory.ts";
import { testDevice, type DeviceTest } from "./test-device.ts";

/** What the choice is made from; tests bring their own. */
export interface DeviceFacts {
  mayHaveGpu(): boolean;
  hasCudaLibraries(): boolean;
  cudaIndices(): number[];
  graphicsMemory(): GraphicsMemory | null;
  test(device: Device): Promise<DeviceTest>;
}

export interface DeviceChoice {
  /** More than one: the plan is spread over all of them. */
  devices: [Device, ...Device[]];
  /** Why these, for people. */
  reason: string;
  /** Devices that were tried and left out. */
  warnings: string[];
  /** Of a graphics device that keeps weights, keys and values; missing: the machine's memory counts. */
  memory?: GraphicsMemory;
}

const MACHINE: DeviceFacts = {
  mayHaveGpu,
  hasCudaLibraries,
  cudaIndices: () => listCudaDevices().map(({ index }) => index),
  graphicsMemory,
  test: testDevice,
};

/** What was asked for; with `auto` what passes its test, the fastest first and the CPU last. Error: device_unavailable. */
export async function rankDevices(wish: DeviceWish, facts = MACHINE): Promise<DeviceChoice[]> {
  const choices = wish === "auto" ? await rankAll(facts) : [await choose(wish, facts)];
  const memory = choices.some(({ devices }) => isWebgpu(devices[0])) ? facts.graphicsMemory() : null;
  if (memory === null) return choices;
  return choices.map((choice) => (isWebgpu(choice.devices[0]) ? { ...choice, memory } : choice));
}

/** On the first of them that does not fail to start. Error: what `start` throws on the last. */
export async function startOnFirst<Started>(
  choices: readonly DeviceChoice[],
  start: (choice: DeviceChoice) => Promise<Started>,
  signal?: AbortSignal,
): Promise<{ started: Started; choice: DeviceChoice }> {
  const failures: string[] = [];
  for (const [rank, ranked] of choices.entries()) {
    const choice = { ...ranked, warnings: [...ranked.warnings, ...failures] };
    try {
      return { started: await start(choice), choice };
    } catch (error) {
      if (rank === choices.length - 1 || signal?.aborted) throw error;
      failures.push(`${choice.devices.join(", ")} is left out: ${reasonOf(error)}`);
    }
  }
  throw new Error("There is no device to start on");
}

async function choose(wish: Exclude<DeviceWish, "auto">, facts: DeviceFacts): Promise<DeviceChoice> {
  if (wish === "cpu") return { devices: ["cpu"], reason: "asked for", warnings: [] };
  const devices = devicesOf(wish, facts);
  for (const device of devices) {
    const test = await facts.test(device);
    if (!test.passed) throw unavailable(device, test.reason);
  }
  return { devices, reason: "asked for", warnings: [] };
}

async function rankAll(facts: DeviceFacts): Promise<DeviceChoice[]> {
  if (!facts.mayHaveGpu()) return [{ devices: ["cpu"], reason: "no graphics device is here", warnings: [] }];
  const warnings: string[] = [];
  const passed: (DeviceTest & { passed: true })[] = [];
  for (const device of ["webgpu" as const, ...cudaDevices(facts)]) {
    const test = await facts.test(device);
    if (test.passed) passed.push(test);
    else warnings.push(`${device} is left out: ${test.reason}`);
  }
  const ranked = passed.toSorted((a, b) => b.speedup - a.speedup);
  const faster = ranked.filter(({ speedup }) => speedup > 1);
  const [slower] = ranked.slice(faster.length);
  const reason =
    faster.length > 0
      ? "the others failed to start"
      : slower
        ? `${slower.device} has ${slower.speedup.toPrecision(2)} times the speed of cpu`
        : "no other device passed its test";
  return [
    ...faster.map(({ device, speedup }): DeviceChoice => {
      return { devices: [device], reason: `it multiplies ${speedup.toFixed(1)} times as fast as the CPU`, warnings };
    }),
    { devices: ["cpu"], reason, warnings },
  ];
}

/** Where the driver lists none, ONNX Runtime may still find the first. */
function cudaDevices(facts: DeviceFacts): Device[] {
  if (!facts.hasCudaLibraries()) return [];
  const indices = facts.cudaIndices();
  return (indices.length === 0 ? [0] : indices).map((index): Device => `cuda:${index}`);
}

function devicesOf(wish: Exclude<DeviceWish, "auto" | "cpu">, facts: DeviceFacts): [Device, ...Device[]] {
  if (isWebgpu(wish)) return [wish];
  if (!facts.hasCudaLibraries()) {
    const line = cudaInstallLine();
    throw new BlockllmError("device_unavailable", "The CUDA libraries of ONNX Runtime are not installed", {
      hint: line ?? "ONNX Runtime has them for Linux on x64 only: --device webgpu",
    });
  }
  if (wish === "cuda") return cudaDevices(facts) as [Device, ...Device[]];
  const listed = facts.cudaIndices().map((index) => `cuda:${index}`);
  if (listed.length > 0 && !listed.includes(wish))
    throw unavailable(wish, `NVIDIA's driver lists ${listed.join(", ")} only`);
  return [wish];
}

function unavailable(device: Device, reason: string): BlockllmError {
  return new BlockllmError("device_unavailable", `${device} cannot be used: ${reason}`, {
    hint: "`blockllm doctor` says what is missing, --device cpu needs nothing",
  });
}
