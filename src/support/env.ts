import { delimiter } from "node:path";
import { BlockllmError } from "./errors.ts";

/** Every variable blockllm reads, once: the only file that touches `process.env`. The README lists the same. */
export const VARIABLES = {
  BLOCKLLM_REPO: "the block repository when --repo is not given; default ./blocks",
  BLOCKLLM_API_KEY: "the key that `forget` shows a server; default none",
  BLOCKLLM_DEBUG: "1: print the stack and the causes of every error; default 0",
} as const;

export interface Environment {
  repository: string;
  /** null: none. */
  apiKey: string | null;
  debug: boolean;
  /** A continuous-integration machine: no spinners even on a terminal. https://docs.github.com/actions sets CI=true. */
  continuousIntegration: boolean;
  /** https://no-color.org */
  noColor: boolean;
  /** Manifests of Vulkan drivers that were chosen by hand. https://vulkan.lunarg.com/doc/view/latest/linux/LoaderInterfaceArchitecture.html */
  vulkanDrivers: string[];
  /** Folders where libraries are looked for first. */
  libraryPath: string[];
}

/** Reads the process environment; a value that cannot be understood throws `usage`. */
export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  return {
    repository: variables["BLOCKLLM_REPO"] || "./blocks",
    apiKey: variables["BLOCKLLM_API_KEY"] || null,
    debug: readSwitch("BLOCKLLM_DEBUG", variables["BLOCKLLM_DEBUG"]),
    continuousIntegration: Boolean(variables["CI"]) && variables["CI"] !== "false",
    noColor: Boolean(variables["NO_COLOR"]),
    vulkanDrivers: splitPaths(variables["VK_DRIVER_FILES"] || variables["VK_ICD_FILENAMES"]),
    libraryPath: splitPaths(variables["LD_LIBRARY_PATH"]),
  };
}

/**
 * ONNX Runtime from 1.30 on reports to its makers from Linux and macOS unless this is set before it is loaded
 * (onnxruntime/core/platform/posix/telemetry.cc). What was set by hand stays.
 */
export function turnRuntimeTelemetryOff(): void {
  process.env["ORT_DISABLE_TELEMETRY"] ??= "1";
}

function splitPaths(value = ""): string[] {
  return value.split(delimiter).filter((path) => path !== "");
}

function readSwitch(name: keyof typeof VARIABLES, value: string | undefined): boolean {
  if (value === undefined || value === "" || value === "0") return false;
  if (value === "1") return true;
  throw new BlockllmError("usage", `${name} is "${value}"; it can be 0 or 1`, { hint: `unset ${name}` });
}
