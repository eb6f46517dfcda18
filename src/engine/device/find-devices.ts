import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readEnvironment } from "../../support/env.ts";

/** Where Linux shows graphics devices to programs: those of any vendor, NVIDIA's, AMD's for computing, Windows' own. */
export const DEVICE_FILES = ["/dev/dri", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"];

/**
 * Is there any sign of a graphics device? Asking the drivers themselves takes most of a second, which machines without
 * one need not wait.
 */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux" || readEnvironment().vulkanDrivers.length > 0) return true;
  return DEVICE_FILES.some((path) => existsSync(path));
}

export interface CudaDevice {
  index: number;
  name: string;
  freeBytes: number;
}

/** What NVIDIA's driver lists; none where it is not installed. */
export function listCudaDevices(): CudaDevice[] {
  try {
    const query = ["--query-gpu=index,name,memory.free", "--format=csv,noheader,nounits"];
    const text = execFileSync("nvidia-smi", query, {
      encoding: "utf8",
      timeout: 10_000,
      stdio: ["ignore", "pipe", "ignore"],
    });
    return parseCudaDevices(text);
  } catch {
    return [];
  }
}

/** Lines like `0, NVIDIA H100 PCIe, 80994`: MiB free. */
export function parseCudaDevices(text: string): CudaDevice[] {
  return text.split("\n").flatMap((line) => {
    const [, index, name, free] = /^(\d+), (.+), (\d+)\s*$/.exec(line) ?? [];
    return index === undefined ? [] : [{ index: Number(index), name: name!, freeBytes: Number(free) * 2 ** 20 }];
  });
}
