import type { InferenceSession } from "onnxruntime-node";
import { runtimeOptions } from "./runtime-options.ts";

/**
 * Weights on a CUDA device. The binding has no tensors there: rows cross the bus for every run, so what runs between the
 * segments, attention with its keys and values, stays with the CPU.
 */
export function cudaOptions(deviceId: number, externalDataFolder?: string): InferenceSession.SessionOptions {
  return { ...runtimeOptions(1, externalDataFolder), executionProviders: [{ name: "cuda", deviceId }] };
}
