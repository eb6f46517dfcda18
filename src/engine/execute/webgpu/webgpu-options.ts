import type { InferenceSession, OnnxValueDataLocation } from "onnxruntime-node";
import { runtimeOptions } from "../runtime-options.ts";

/** Where outputs go: one place for all, or one per name. "given": every run brings the tensors they are written into. */
export type OutputPlaces = "device" | "given" | Record<string, "device" | "host">;

/**
 * Every node must run on the device: a node without a kernel would run on the CPU and copy its rows both ways, unnoticed.
 * With any output placed on the device, ONNX Runtime ignores tensors that a run brings for its outputs.
 */
export function webgpuOptions(outputs: OutputPlaces, externalDataFolder?: string): InferenceSession.SessionOptions {
  const options = runtimeOptions(1, externalDataFolder);
  const session = { ...(options.extra!["session"] as object), disable_cpu_ep_fallback: "1" };
  return {
    ...options,
    executionProviders: ["webgpu"],
    // Errors come back as exceptions; ONNX Runtime's own lines on stderr would tell them twice.
    logSeverityLevel: 4,
    extra: { session },
    ...(outputs === "given" ? {} : { preferredOutputLocation: locations(outputs) }),
  };
}

type Locations = NonNullable<InferenceSession.SessionOptions["preferredOutputLocation"]>;

function locations(outputs: Exclude<OutputPlaces, "given">): Locations {
  if (outputs === "device") return "gpu-buffer";
  const place = { device: "gpu-buffer", host: "cpu" } as const;
  const named = Object.entries(outputs).map(([name, where]): [string, OnnxValueDataLocation] => [name, place[where]]);
  return Object.fromEntries(named);
}
