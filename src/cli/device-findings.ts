import { existsSync } from "node:fs";
import { cudaInstallLine, hasCudaLibraries, missingCudaParts } from "../engine/device/cuda-libraries.ts";
import { DEVICE_FILES, listCudaDevices, mayHaveGpu } from "../engine/device/find-devices.ts";
import { type Gap, vulkanGap } from "../engine/device/vulkan-gap.ts";

/** What was tested of the devices; `name` as `--device` takes it. */
export interface ExaminedDevice {
  name: string;
  passed: boolean;
  reason?: string;
}

/** What is missing for graphics devices, and the line that installs it. */
export function deviceFindings(devices: readonly ExaminedDevice[]): Gap[] {
  return [cudaFinding(), webgpuFinding(devices)].filter((gap) => gap !== null);
}

function cudaFinding(): Gap | null {
  const [first, ...others] = listCudaDevices();
  const seen = first && (others.length === 0 ? first.name : `${first.name} and ${others.length} more`);
  if (!hasCudaLibraries()) {
    const fix = cudaInstallLine();
    if (fix === null) return null;
    const why = seen === undefined ? "; the CPU needs none" : `, for ${seen}`;
    return { text: `the CUDA libraries of ONNX Runtime are not installed${why}`, fix };
  }
  const missing = missingCudaParts();
  if (missing.length > 0) return missingParts(missing);
  if (seen !== undefined) return null;
  return { text: "the CUDA libraries are installed, but NVIDIA's driver lists no device", fix: "nvidia-smi" };
}

/** NVIDIA's driver has libcuda, everything else is CUDA's. */
export function missingParts(missing: readonly string[]): Gap {
  const text = `ONNX Runtime's CUDA libraries cannot be loaded without ${missing.join(", ")}`;
  const ofCuda = missing.filter((name) => !name.startsWith("libcuda.so"));
  if (ofCuda.length === 0) return { text, fix: "install NVIDIA's driver" };
  const major = /\.so\.(\d+)/.exec(ofCuda.find((name) => /^lib(?:cudart|cublas)/.test(name)) ?? "")?.[1] ?? "12";
  return {
    text,
    fix: `install CUDA ${major} and cuDNN 9 from https://developer.nvidia.com/cuda-downloads, or put their folders into LD_LIBRARY_PATH`,
  };
}

function webgpuFinding(devices: readonly ExaminedDevice[]): Gap | null {
  const webgpu = devices.find(({ name }) => name === "webgpu");
  if (process.platform !== "linux" || !webgpu || webgpu.passed) return null;
  if (!mayHaveGpu()) {
    if (!["/.dockerenv", "/run/.containerenv"].some((path) => existsSync(path))) return null;
    return {
      text: `this container was given no graphics device: it has none of ${DEVICE_FILES.join(", ")}`,
      fix: "docker run --gpus all ... for NVIDIA, docker run --device /dev/dri ... for others",
    };
  }
  if (!webgpu.reason?.includes("adapter")) return null;
  return (
    vulkanGap() ?? {
      text: "WebGPU found no device that it can use, though Vulkan's loader and a driver are installed",
      fix: "vulkaninfo --summary    # apt-get install vulkan-tools",
    }
  );
}
