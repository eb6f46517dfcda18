import { readdirSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import { createRequire } from "node:module";
import * as onnxruntime from "onnxruntime-node";
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
  processor: string;
  cores: number;
  memory_bytes: number;
  memory_free_bytes: number;
  repository: string;
  disk_free_bytes: number;
  findings: { severity: "missing" | "advice"; text: string; fix: string }[];
}

const LOWEST_NODE = [20, 19] as const;
const requireFrom = createRequire(import.meta.url);

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
      ["processor", `${doctor.processor}, ${doctor.cores} cores`],
      ["memory", `${formatBytes(doctor.memory_free_bytes)} free of ${formatBytes(doctor.memory_bytes)}`],
      ["repository", doctor.repository],
      ["disk", `${formatBytes(doctor.disk_free_bytes)} free`],
    ]);
    const findings = doctor.findings.map(({ severity, text, fix }) => `${severity}: ${text}\n  ${fix}`);
    return [facts, "", ...findings, doctor.ok ? "ready: models run on the CPU" : "not ready"].join("\n");
  },
});

function examine(repositoryPath: string): Doctor {
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
  if (process.platform === "linux" && process.arch === "x64" && !cudaInstalled) {
    findings.push({
      severity: "advice",
      text: "the CUDA libraries of ONNX Runtime are not installed; the CPU needs none",
      fix: `node ${resolve(onnxruntimeFolder(), "script/install")} --onnxruntime-node-install=cuda12`,
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
    processor: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    memory_free_bytes: freemem(),
    repository,
    disk_free_bytes: freeBytesAt(repository),
    findings,
  };
}

function onnxruntimeFolder(): string {
  return dirname(dirname(requireFrom.resolve("onnxruntime-node")));
}

/** Not in the npm package for their size; its install script puts CUDA's and TensorRT's beside the library together. */
function hasCudaLibraries(): boolean {
  const folder = resolve(onnxruntimeFolder(), "bin/napi-v6", process.platform, process.arch);
  return readdirSync(folder).some((name) => name.includes("providers_cuda"));
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
