import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";

/**
 * After these all further work of the process on the device fails, too: no or unavailable device, uncorrectable ECC and NVLink
 * errors, everything a kernel can break. https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html
 */
const LASTING = new Set([46, 100, 214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, 999]);
const NO_MEMORY = /CUDA failure 2:|Failed to allocate memory for requested buffer/;

/** What ONNX Runtime says of a CUDA device: device_lost, memory_exceeded; null: the error is another one. */
export function cudaError(error: unknown, device: string): BlockllmError | null {
  const [, what, code] = /(CUDA failure (\d+):.*?)\s*(?:;|$)/m.exec(reasonOf(error)) ?? [];
  if (code !== undefined && LASTING.has(Number(code))) {
    return new BlockllmError("device_lost", `${device} stopped working: ${what}`, {
      hint: "ask again: the server goes on with the CPU in its place; restart it to have the device back",
      cause: error,
    });
  }
  if (!NO_MEMORY.test(reasonOf(error))) return null;
  return new BlockllmError("memory_exceeded", `${device} has no memory left`, {
    hint: "fewer --models, a lower --max-batch-tokens, or more devices",
    cause: error,
  });
}
