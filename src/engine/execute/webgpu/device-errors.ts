import { BlockllmError } from "../../../support/errors.ts";
import { reasonOf } from "../../../support/reason.ts";

/** As Dawn words it over Vulkan, Direct3D and Metal. */
const LOST = /device (?:is |was )?lost|lost device|DEVICE_LOST|DEVICE_REMOVED|DEVICE_HUNG/i;
const NO_MEMORY = /OUT_OF_DEVICE_MEMORY|OUT_OF_HOST_MEMORY|E_OUTOFMEMORY|out of memory|exceeds the max buffer size/i;

export function saysDeviceLost(error: unknown): boolean {
  return LOST.test(reasonOf(error));
}

export function deviceLost(cause: unknown): BlockllmError {
  const [reason] = reasonOf(cause).split("\n");
  return new BlockllmError("device_lost", `the device stopped working: ${reason}`, {
    hint: "ask again: the server opens the device anew",
    cause,
  });
}

/** null: the error is another one. */
export function outOfDeviceMemory(error: unknown): BlockllmError | null {
  const reason = reasonOf(error);
  if (!NO_MEMORY.test(reason)) return null;
  return new BlockllmError("memory_exceeded", `the device has no memory left: ${reason.split("\n")[0]}`, {
    hint: "less --memory than the device has, or fewer --models",
    cause: error,
  });
}
