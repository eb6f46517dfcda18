import { existsSync } from "node:fs";
import { inWords } from "../../src/engine/execute/webgpu/device-errors.ts";
import { DeviceTensors } from "../../src/engine/execute/webgpu/device-tensors.ts";

/** Where Debian's chromium keeps the driver that computes WebGPU on the processor. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/**
 * Why no WebGPU device can be had here; null: there is one. Without a driver chosen in the environment, SwiftShader is
 * taken, so that every machine with it tests the same.
 */
export async function missingWebgpu(): Promise<string | null> {
  if (process.env["VK_ICD_FILENAMES"] === undefined && existsSync(SWIFTSHADER)) {
    process.env["VK_ICD_FILENAMES"] = process.env["VK_DRIVER_FILES"] = SWIFTSHADER;
    process.env["XDG_RUNTIME_DIR"] ??= "/tmp";
  }
  try {
    await (await DeviceTensors.open()).close();
    return null;
  } catch (error) {
    const reason = inWords(error);
    console.warn(`WebGPU tests are skipped: ${reason}. Debian's chromium and libvulkan1 bring a device.`);
    return reason;
  }
}
