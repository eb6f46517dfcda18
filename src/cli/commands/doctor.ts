import { statfsSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import * as onnxruntime from "onnxruntime-node";
import { cudaInstallLine, hasCudaLibraries, listCudaDevices, mayHaveGpu } from "../../engine/device/find-devices.ts";
import { testDevice } from "../../engine/device/test-device.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../output/format.ts";
import { renderFacts } from "../output/table.ts";

interface Doctor {
  ok: boolean;
  node: string;
  platform: string;
  onnxruntime: string;
  execution_providers: { name: string; installed: boolean }[];
  /** Each tested as `serve --device auto` does; `speedup` is against the CPU. */
  devices: { name: string; passed: boolean; speedup?: number; reason?: string }[];
  processor: string;
  cores: number;
  memory_bytes: number;
  memory_free_bytes: number;
  repository: string;
  disk_free_bytes: number;
  findings: { severity: "missing" | "advice"; text: string; fix: string }[];
}

const LOWEST_NODE = [20, 19] as const;

export const doctorCommand = defineCommand<object, Doctor>({
  usage: "doctor",
  summary: "what this machine can run, and what is missing with the command that fixes it",
  options: [],
  examples: ["blockllm doctor", "blockllm doctor --json"],
  run: async ({ repositoryPath }) => examine(repositoryPath),
  verdict: ({ ok, findings }) =>
    ok ? null : new BlockllmError("device_unavailable", findings[0]!.text, { hint: findings[0]!.fix }),
  print(doctor) {
    const facts = renderFacts([
      ["Node", `${doctor.node} on ${doctor.platform}`],
      ["ONNX Runtime", doctor.onnxruntime],
      [
        "providers",
        doctor.execution_providers
          .map(({ name, installed }) => (installed ? name : `${name} (not installed)`))
          .join(", "),
      ],
      ["devices", doctor.devices.map(describeDevice).join("\n")],
      ["processor", `${doctor.processor}, ${doctor.cores} cores`],
      ["memory", `${formatBytes(doctor.memory_free_bytes)} free of ${formatBytes(doctor.memory_bytes)}`],
      ["repository", doctor.repository],
      ["disk", `${formatBytes(doctor.disk_free_bytes)} free`],
    ]);
    const findings = doctor.findings.map(({ severity, text, fix }) => `${severity}: ${text}\n  ${fix}`);
    return [facts, "", ...findings, doctor.ok ? "ready: models run on the CPU" : "not ready"].join("\n");
  },
});

async function examine(repositoryPath: string): Promise<Doctor> {
  const repository = resolve(repositoryPath);
  const findings: Doctor["findings"] = [];
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < LOWEST_NODE[0] || (major === LOWEST_NODE[0] && minor < LOWEST_NODE[1])) {
    findings.push({
      severity: "missing",
      text: `Node ${process.versions.node} is older than ${LOWEST_NODE.join(".")}`,
      fix: `install Node ${LOWEST_NODE.join(".")} or newer from https://nodejs.org`,
    });
  }
  const cudaInstalled = hasCudaLibraries();
  const cudaLine = cudaInstallLine();
  if (cudaLine !== null && !cudaInstalled) {
    findings.push({
      severity: "advice",
      text: "the CUDA libraries of ONNX Runtime are not installed; the CPU needs none",
      fix: cudaLine,
    });
  }
  const devices = await examineDevices(cudaInstalled);
  if (
    process.platform === "linux" &&
    mayHaveGpu() &&
    devices.some(({ name, passed }) => name === "webgpu" && !passed)
  ) {
    findings.push({
      severity: "advice",
      text: "WebGPU found no device it can use; it needs the Vulkan loader and the driver of the graphics device",
      fix: "apt-get install libvulkan1 mesa-vulkan-drivers",
    });
  }
  return {
    ok: findings.every(({ severity }) => severity !== "missing"),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    onnxruntime: onnxruntime.env.versions.node ?? onnxruntime.env.versions.common,
    execution_providers: onnxruntime
      .listSupportedBackends()
      .map(({ name, bundled }) => ({ name, installed: bundled || cudaInstalled })),
    devices,
    processor: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    memory_free_bytes: freemem(),
    repository,
    disk_free_bytes: freeBytesAt(repository),
    findings,
  };
}

async function examineDevices(cudaInstalled: boolean): Promise<Doctor["devices"]> {
  const devices: Doctor["devices"] = [{ name: "cpu", passed: true, speedup: 1 }];
  if (!mayHaveGpu()) return [...devices, { name: "webgpu", passed: false, reason: "no graphics device is here" }];
  const cuda = cudaInstalled ? listCudaDevices().map(({ index }) => `cuda:${index}` as const) : [];
  for (const name of ["webgpu", ...cuda] as const) {
    const { device, ...result } = await testDevice(name);
    devices.push({ name: device, ...result });
  }
  return devices;
}

function describeDevice({ name, speedup, reason }: Doctor["devices"][number]): string {
  if (reason !== undefined) return `${name}: ${reason}`;
  return name === "cpu" ? name : `${name}: passes its test, ${speedup!.toPrecision(2)} times the speed of the CPU`;
}

/** Of the file system that holds the folder, or will hold it once it is made. */
function freeBytesAt(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return freeBytesAt(dirname(folder));
  }
}
