import { inWords } from "../execute/webgpu/device-errors.ts";
import type { Device } from "./device.ts";
import { measureDevice } from "./measure-device.ts";
import type { DeviceTest } from "./test-device.ts";

/** A process of its own: a driver that crashes takes only this one along. Its last line is a DeviceTest. */
const device = process.argv[2] as Device;
let answer: DeviceTest;
try {
  answer = { device, passed: true, ...(await measureDevice(device)) };
} catch (error) {
  answer = { device, passed: false, reason: inWords(error) };
}
process.stdout.write(`\n${JSON.stringify(answer)}\n`, () => process.exit(0));
