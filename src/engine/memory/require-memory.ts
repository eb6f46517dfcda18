import { BlockllmError } from "../../support/errors.ts";
import type { DeviceChoice } from "../device/choose-device.ts";
import { isWebgpu } from "../device/device.ts";
import { machineMemory, type MachineMemory } from "./machine-memory.ts";

/**
 * Before anything is loaded: what nobody has is not promised. A WebGPU device of which no driver says what it has counts as
 * one that has the machine's memory. Error: memory_exceeded.
 */
export function requireMemory(
  { memoryBytes }: { memoryBytes: number },
  { devices, memory }: DeviceChoice,
  machine: MachineMemory = machineMemory(),
): void {
  const there = memory?.freeBytes ?? machine.totalBytes;
  if (memoryBytes <= there) return;
  const owner = memory ? `${devices[0]} has ${there} free` : `the ${machine.boundBy} has ${there}`;
  const unknown = !memory && isWebgpu(devices[0]) ? ", and no driver says what the device has" : "";
  throw new BlockllmError(
    "memory_exceeded",
    `${memoryBytes} bytes of memory are asked for, but ${owner}, ${memoryBytes - there} too little${unknown}`,
    { hint: `--memory ${Math.floor(there / 1e6)}MB or less; without it a share of what is free is taken` },
  );
}
