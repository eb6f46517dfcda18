import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { scriptBeside } from "../../support/script-beside.ts";
import type { Device } from "./device.ts";
import type { Measured } from "./measure-device.ts";

export type DeviceTest =
  | ({ device: Device; passed: true } & Measured)
  | { device: Device; passed: false; reason: string };

/** A software device on a machine at full load took a minute. */
const PATIENCE_MS = 180_000;

/** Multiplies and attends on a device and compares with the CPU, in a process of its own. */
export async function testDevice(device: Device): Promise<DeviceTest> {
  const script = scriptBeside(import.meta.url, "device-test-process");
  const loader = script.href.endsWith(".js") ? [] : ["--import", import.meta.resolve("tsx")];
  const child = spawn(process.execPath, [...loader, fileURLToPath(script), device], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  let [output, complaints] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (complaints += text));
  return await new Promise((resolve) => {
    const fail = (reason: string): void => resolve({ device, passed: false, reason });
    child.on("error", (error) => fail(error.message));
    child.on("close", (code, signal) => {
      const line = output.trimEnd().split("\n").at(-1) ?? "";
      if (line.startsWith("{")) return resolve(JSON.parse(line) as DeviceTest);
      const last = complaints.trimEnd().split("\n").at(-1) ?? "";
      fail(
        signal === "SIGKILL"
          ? `it gave no answer in ${PATIENCE_MS / 1000} s`
          : `its driver ended with ${signal ?? code}: ${last}`,
      );
    });
  });
}
