import { BlockllmError } from "../../../support/errors.ts";
import { reasonOf } from "../../../support/reason.ts";

/** As Dawn words it over Vulkan, Direct3D and Metal. */
const LOST = /device\]? (?:is |was )?lost|lost device|DEVICE_LOST|DEVICE_REMOVED|DEVICE_HUNG/i;
/** A buffer that Dawn could not allocate is told of when it is used: as invalid, without the reason. */
const NO_MEMORY =
  /OUT_OF_DEVICE_MEMORY|OUT_OF_HOST_MEMORY|E_OUTOFMEMORY|out of memory|exceeds the max buffer size|\[Invalid Buffer/i;

export function saysDeviceLost(error: unknown): boolean {
  return LOST.test(reasonOf(error));
}

export function deviceLost(cause: unknown): BlockllmError {
  return new BlockllmError("device_lost", `the device stopped working: ${inWords(cause)}`, {
    hint: "ask again: the server opens the device anew",
    cause,
  });
}

/** null: the error is another one. */
export function outOfDeviceMemory(error: unknown): BlockllmError | null {
  if (!NO_MEMORY.test(reasonOf(error))) return null;
  return new BlockllmError("memory_exceeded", `the device has no memory left: ${inWords(error)}`, {
    hint: "less --memory than the device has, or fewer --models",
    cause: error,
  });
}

/** The first line of what ONNX Runtime says, without the place in its sources that it puts before. */
export function inWords(error: unknown): string {
  const [line] = reasonOf(error).split("\n");
  return line!.replace(/^.*\/onnxruntime_src\/.* was false\.\s*/, "");
}
