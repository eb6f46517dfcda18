import { expect, test } from "vitest";
import { parseMissing } from "../../src/engine/device/cuda-libraries.ts";
import { vulkanGap, type VulkanFacts } from "../../src/engine/device/vulkan-gap.ts";

const INSTALLED = "/usr/share/vulkan/icd.d/radeon_icd.json";
const manifestOf = (library: string): string =>
  JSON.stringify({ ICD: { library_path: library, api_version: "1.3.0" } });

/** A machine with a loader, one installed driver and these differences. */
function machine(more: Partial<VulkanFacts> & { files?: Record<string, string> } = {}): VulkanFacts {
  const files: Record<string, string> = { [INSTALLED]: manifestOf("/usr/lib/libvulkan_radeon.so"), ...more.files };
  const there = new Set(["/usr/lib/libvulkan_radeon.so"]);
  return {
    libraries: new Set(["libvulkan.so.1"]),
    chosen: [],
    installed: [INSTALLED],
    read: (path) => files[path] ?? null,
    exists: (path) => there.has(path),
    ...more,
  };
}

test("nothing is missing where the loader and one driver are there", () => {
  expect(vulkanGap(machine())).toBeNull();
  expect(vulkanGap(machine({ libraries: null }))).toBeNull();
  const other = "/usr/share/vulkan/icd.d/other.json";
  const broken = { installed: [other, INSTALLED], files: { [other]: manifestOf("/gone.so") } };
  expect(vulkanGap(machine(broken)), "one broken driver of two").toBeNull();
});

test("the loader comes first", () => {
  expect(vulkanGap(machine({ libraries: new Set(["libc.so.6"]), installed: [] }))).toEqual({
    text: "the Vulkan loader, libvulkan.so.1, is not installed",
    fix: "apt-get install libvulkan1",
  });
});

test("a driver chosen by hand is looked at in place of the installed ones", () => {
  expect(vulkanGap(machine({ chosen: ["/nope.json"] }))?.text).toBe(
    "VK_DRIVER_FILES names /nope.json, which is not there",
  );
  const chosen = { chosen: ["/opt/a.json"], files: { "/opt/a.json": manifestOf("./gone.so") } };
  expect(vulkanGap(machine(chosen))).toEqual({
    text: "/opt/a.json names /opt/gone.so, which is not there",
    fix: "unset VK_DRIVER_FILES VK_ICD_FILENAMES",
  });
});

test("a library that a manifest names alone is looked for among the machine's", () => {
  const files = { [INSTALLED]: manifestOf("libGLX_nvidia.so.0") };
  expect(vulkanGap(machine({ files }))?.text).toBe(`${INSTALLED} names libGLX_nvidia.so.0, which is not there`);
  const libraries = new Set(["libvulkan.so.1", "libGLX_nvidia.so.0"]);
  expect(vulkanGap(machine({ files, libraries }))).toBeNull();
});

test("without any driver the line depends on whether NVIDIA's is there", () => {
  expect(vulkanGap(machine({ installed: [] }))?.fix).toMatch(/^apt-get install mesa-vulkan-drivers/);
  const libraries = new Set(["libvulkan.so.1", "libGLX_nvidia.so.0"]);
  expect(vulkanGap(machine({ installed: [], libraries }))?.fix).toMatch(/^echo .*libGLX_nvidia.*VK_DRIVER_FILES/);
});

test("ldd says what is not found", () => {
  const text = [
    "\tlinux-vdso.so.1 (0x00007ffd)",
    "\tlibcublasLt.so.12 => not found",
    "\tlibcuda.so.1 => not found",
    "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
  ].join("\n");
  expect(parseMissing(text)).toEqual(["libcublasLt.so.12", "libcuda.so.1"]);
});
