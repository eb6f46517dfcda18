import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { readEnvironment } from "../../support/env.ts";

/** What stands between WebGPU and a graphics device, and what mends it. */
export interface Gap {
  text: string;
  fix: string;
}

/** Where drivers name themselves to Vulkan's loader. https://vulkan.lunarg.com/doc/view/latest/linux/LoaderDriverInterface.html */
const MANIFESTS = ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
const LOADER = "libvulkan.so.1";
const NVIDIA_LIBRARY = "libGLX_nvidia.so.0";
const NVIDIA_MANIFEST = `{"file_format_version":"1.0.0","ICD":{"library_path":"${NVIDIA_LIBRARY}","api_version":"1.3.0"}}`;

/** What this Linux machine has; tests bring their own. */
export interface VulkanFacts {
  /** Names of the libraries that a program finds; null: unknown. */
  libraries: ReadonlySet<string> | null;
  /** Manifests that were chosen by hand in place of those that are installed. */
  chosen: readonly string[];
  installed: readonly string[];
  /** null: it is not there. */
  read: (path: string) => string | null;
  exists: (path: string) => boolean;
}

/** null: nothing that can be seen from here. */
export function vulkanGap(facts: VulkanFacts = machineFacts()): Gap | null {
  const { libraries, chosen, installed, read } = facts;
  if (libraries !== null && !libraries.has(LOADER))
    return { text: `the Vulkan loader, ${LOADER}, is not installed`, fix: "apt-get install libvulkan1" };
  const missing = chosen.find((path) => read(path) === null);
  if (missing !== undefined)
    return {
      text: `VK_DRIVER_FILES names ${missing}, which is not there`,
      fix: "unset VK_DRIVER_FILES VK_ICD_FILENAMES",
    };
  const manifests = chosen.length > 0 ? chosen : installed;
  const broken = manifests.flatMap((path) => {
    const library = libraryOf(path, read(path));
    return library === null || isThere(library, facts) ? [] : [{ path, library }];
  });
  if (manifests.length > broken.length) return null;
  if (broken[0]) {
    const fix = chosen.length > 0 ? "unset VK_DRIVER_FILES VK_ICD_FILENAMES" : "install the graphics driver again";
    return { text: `${broken[0].path} names ${broken[0].library}, which is not there`, fix };
  }
  if (libraries?.has(NVIDIA_LIBRARY)) {
    return {
      text: "NVIDIA's driver is here, but no file names it to Vulkan, as in NVIDIA's container images",
      fix: `echo '${NVIDIA_MANIFEST}' > nvidia_icd.json; export VK_DRIVER_FILES=$PWD/nvidia_icd.json`,
    };
  }
  return {
    text: "no graphics driver names itself to Vulkan",
    fix: "apt-get install mesa-vulkan-drivers    # AMD and Intel; NVIDIA's own driver brings its file",
  };
}

/** null: the manifest says it in another way than we know. */
function libraryOf(path: string, text: string | null): string | null {
  const named = /"library_path"\s*:\s*"([^"]+)"/.exec(text ?? "")?.[1];
  if (named === undefined) return null;
  // Only a bare name is looked up among the libraries; a path goes from the manifest.
  return named.includes("/") ? resolve(dirname(path), named) : named;
}

function isThere(library: string, { libraries, exists }: VulkanFacts): boolean {
  return isAbsolute(library) ? exists(library) : (libraries?.has(library) ?? true);
}

function machineFacts(): VulkanFacts {
  return {
    libraries: knownLibraries(),
    chosen: readEnvironment().vulkanDrivers,
    installed: MANIFESTS.flatMap((folder) =>
      namesIn(folder)
        .filter((name) => name.endsWith(".json"))
        .map((name) => join(folder, name)),
    ),
    exists: existsSync,
    read: (path) => {
      try {
        return readFileSync(path, "utf8");
      } catch {
        return null;
      }
    },
  };
}

/** As glibc's loader finds them; null where it is another one. */
function knownLibraries(): ReadonlySet<string> | null {
  try {
    const listed = execFileSync("/sbin/ldconfig", ["-p"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const cached = [...listed.matchAll(/^\s+(\S+) .*=> (.+)$/gm)].filter(([, , path]) => existsSync(path!));
    const ofPath = readEnvironment().libraryPath.flatMap(namesIn);
    return new Set([...cached.map(([, name]) => name!), ...ofPath.map((name) => basename(name))]);
  } catch {
    return null;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
