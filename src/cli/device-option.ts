import type { EngineClient } from "../engine/engine-client.ts";
import { parseDevice } from "../engine/device/device.ts";
import type { Progress } from "./output/spinner.ts";

/** `--device`, the same for every command that runs models. */
export const DEVICE_OPTION = {
  flags: "--device <name>",
  help: "cpu, webgpu, webgpu:fp16 (multiplies weights stored as float16 in float16), cuda, cuda:<number>, or auto: the fastest that passes a test (default: cpu)",
  parse: parseDevice,
};

/** Says on what models run, and why, where that was not simply the CPU. */
export function noteDevice({ device, models }: EngineClient, progress: Progress): void {
  const { devices, reason, warnings } = device;
  for (const warning of warnings) progress.note(`warning: ${warning}`);
  if (devices[0] !== "cpu" || reason !== "asked for") progress.note(`device: ${devices.join(", ")} (${reason})`);
  for (const { name, hostReason } of models)
    if (hostReason !== undefined) progress.note(`warning: ${name} runs on the CPU: ${hostReason}`);
}
