import { existsSync, rmSync } from "node:fs";
import { makeDeviceLosable } from "../engine/losing-device.ts";

/** For `node --import`: the process's WebGPU device is lost whenever this file appears. */
export const LOSE_FILE = "LOSE_DEVICE_FILE";

const file = process.env[LOSE_FILE];
if (file !== undefined) {
  const device = makeDeviceLosable();
  device.beforeRun = () => {
    if (!existsSync(file)) return;
    rmSync(file);
    device.lose();
  };
}
