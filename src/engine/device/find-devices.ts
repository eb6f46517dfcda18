import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { readEnvironment } from "../../support/env.ts";

/**
 * Is there any sign of a graphics device? Asking the drivers themselves takes most of a second, which machines without
 * one need not wait.
 */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux" || readEnvironment().vulkanDriver) return true;
  return ["/dev/dri", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"].some((path) => existsSync(path));
}

/** Not in the npm package for their size; its install script puts CUDA's libraries beside its own. */
export function hasCudaLibraries(): boolean {
  const folder = join(onnxruntimeFolder(), "bin/napi-v6", process.platform, process.arch);
  return readdirSync(folder).some((name) => name.includes("providers_cuda"));
}

/** ONNX Runtime's own way to get CUDA's libraries; null: it has none for this platform. */
export function cudaInstallLine(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  return `node ${join(onnxruntimeFolder(), "script/install")} --onnxruntime-node-install=cuda12`;
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

function onnxruntimeFolder(): string {
  return dirname(dirname(createRequire(import.meta.url).resolve("onnxruntime-node")));
}
