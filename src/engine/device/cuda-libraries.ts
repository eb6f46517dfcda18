import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** Not in the npm package for their size; its install script puts ONNX Runtime's CUDA libraries beside its own. */
export function hasCudaLibraries(): boolean {
  return cudaProvider() !== undefined;
}

/** ONNX Runtime's own way to get them; null: it has none for this platform. */
export function cudaInstallLine(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  return `node ${join(onnxruntimeFolder(), "script/install")} --onnxruntime-node-install=cuda12`;
}

/** Of CUDA and NVIDIA's driver, what ONNX Runtime's libraries need and the machine does not have. */
export function missingCudaParts(): string[] {
  const provider = cudaProvider();
  if (provider === undefined || process.platform !== "linux") return [];
  try {
    return parseMissing(execFileSync("ldd", [provider], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  } catch {
    return [];
  }
}

/** Lines of ldd like `libcuda.so.1 => not found`. */
export function parseMissing(text: string): string[] {
  return [...text.matchAll(/^\s*(\S+) => not found$/gm)].map(([, name]) => name!);
}

function cudaProvider(): string | undefined {
  const folder = join(onnxruntimeFolder(), "bin/napi-v6", process.platform, process.arch);
  const name = readdirSync(folder).find((file) => file.includes("providers_cuda"));
  return name && join(folder, name);
}

function onnxruntimeFolder(): string {
  return dirname(dirname(createRequire(import.meta.url).resolve("onnxruntime-node")));
}
