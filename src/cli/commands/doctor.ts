import { statfsSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import * as onnxruntime from "onnxruntime-node";
import { hasCudaLibraries } from "../../engine/device/cuda-libraries.ts";
import { listCudaDevices, mayHaveGpu } from "../../engine/device/find-devices.ts";
import { graphicsMemory } from "../../engine/device/graphics-memory.ts";
import { testDevice } from "../../engine/device/test-device.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { deviceFindings } from "../device-findings.ts";
import { formatBytes } from "../output/format.ts";
import { renderFacts } from "../output/table.ts";

interface Doctor {
  ok: boolean;
  node: string;
  platform: string;
  onnxruntime: string;
  execution_providers: { name: string; installed: boolean }[];
  /**
   * Each tested as `serve --device auto` does; `speedup` is against the CPU. `hardware` as NVIDIA's driver calls it; `half`:
   * does WebGPU compute with float16?
   */
  devices: { name: string; hardware?: string; passed: boolean; speedup?: number; half?: boolean; reason?: string }[];
  /** What WebGPU gets for weights, keys and values without `--memory`; null: a share of the machine's memory. */
  device_memory_bytes: number | null;
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
      ...(doctor.device_memory_bytes === null
        ? []
        : [["device memory", `${formatBytes(doctor.device_memory_bytes)} to be used`] satisfies [string, string]]),
      ["processor", `${doctor.processor}, ${doctor.cores} cores`],
      ["memory", `${formatBytes(doctor.memory_free_bytes)} free of ${formatBytes(doctor.memory_bytes)}`],
      ["repository", doctor.repository],
      ["disk", `${formatBytes(doctor.disk_free_bytes)} free`],
    ]);
    const findings = doctor.findings.map(({ severity, text, fix }) => `${severity}: ${text}\n  ${fix}`);
    return [facts, "", ...findings, doctor.ok ? `ready: models run on ${usable(doctor)}` : "not ready"].join("\n");
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
  const devices = await examineDevices(cudaInstalled);
  findings.push(...deviceFindings(devices).map((gap) => ({ severity: "advice" as const, ...gap })));
  return {
    ok: findings.every(({ severity }) => severity !== "missing"),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    onnxruntime: onnxruntime.env.versions.node ?? onnxruntime.env.versions.common,
    execution_providers: onnxruntime
      .listSupportedBackends()
      .map(({ name, bundled }) => ({ name, installed: bundled || cudaInstalled })),
    devices,
    device_memory_bytes: graphicsMemory()?.budgetBytes ?? null,
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
  const { device: name, ...webgpu } = await testDevice("webgpu");
  devices.push({ name, ...webgpu });
  for (const { index, name: hardware } of cudaInstalled ? listCudaDevices() : []) {
    const { device, ...result } = await testDevice(`cuda:${index}`);
    devices.push({ name: device, hardware, ...result });
  }
  return devices;
}

function usable({ devices }: Doctor): string {
  const names = devices.filter(({ passed }) => passed).map(({ name }) => (name === "cpu" ? "the CPU" : name));
  return new Intl.ListFormat("en").format(names);
}

function describeDevice({ name, hardware, speedup, half, reason }: Doctor["devices"][number]): string {
  const known = hardware === undefined ? name : `${name} (${hardware})`;
  if (reason !== undefined) return `${known}: ${reason}`;
  if (name === "cpu") return name;
  const float16 = half === undefined ? "" : half ? ", with float16" : ", without float16";
  return `${known}: passes its test, ${speedup!.toPrecision(2)} times the speed of the CPU${float16}`;
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
