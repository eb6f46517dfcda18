import { totalmem } from "node:os";

/** What `--memory` is when nobody says: of the machine's memory or of the cgroup's, and of what is free of it at start. */
const SHARE_OF_ALL = 0.6;
const SHARE_OF_FREE = 0.8;

export interface MachineMemory {
  /** The machine's, or the limit of this process's cgroup where that is less. */
  totalBytes: number;
  freeBytes: number;
  boundBy: "machine" | "cgroup";
}

export function machineMemory(): MachineMemory {
  const machineBytes = totalmem();
  // 0 where there is no limit, or a number beyond any machine (cgroup v1).
  const limit = process.constrainedMemory();
  const bounded = limit > 0 && limit < machineBytes;
  return {
    totalBytes: bounded ? limit : machineBytes,
    freeBytes: process.availableMemory(),
    boundBy: bounded ? "cgroup" : "machine",
  };
}

export function defaultMemoryBytes({ totalBytes, freeBytes }: MachineMemory = machineMemory()): number {
  return Math.floor(Math.min(totalBytes * SHARE_OF_ALL, freeBytes * SHARE_OF_FREE));
}
