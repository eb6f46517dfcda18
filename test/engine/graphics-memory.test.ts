import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { DeviceChoice } from "../../src/engine/device/choose-device.ts";
import { amdFreeBytes, type GraphicsMemory, graphicsMemory } from "../../src/engine/device/graphics-memory.ts";
import { requireMemory } from "../../src/engine/memory/require-memory.ts";

const GiB = 2 ** 30;

test("the free memory of cards is read where their driver keeps it", async () => {
  const cards = await mkdtemp(join(tmpdir(), "blockllm-drm-"));
  const card = async (name: string, files: Record<string, string>): Promise<void> => {
    await mkdir(join(cards, name, "device"), { recursive: true });
    for (const [file, text] of Object.entries(files)) await writeFile(join(cards, name, "device", file), text);
  };
  const ofAmd = (total: number, used: number): Record<string, string> => ({
    mem_info_vram_total: `${total}\n`,
    mem_info_vram_used: `${used}\n`,
  });
  await card("card0", ofAmd(16 * GiB, 3 * GiB));
  await card("card0-DP-1", ofAmd(9 * GiB, 0));
  await card("card1", { vendor: "0x8086\n" });
  await card("card2", ofAmd(512 * 2 ** 20, 100));
  await card("card3", { mem_info_vram_total: "no number\n", mem_info_vram_used: "0\n" });
  expect(amdFreeBytes(cards)).toEqual([13 * GiB]);
  expect(amdFreeBytes(join(cards, "nowhere"))).toEqual([]);
  await rm(cards, { recursive: true });
});

test("a share of the least that a device has free is taken, and nothing is said of devices that no driver lists", () => {
  expect(graphicsMemory([])).toBeNull();
  expect(graphicsMemory([8 * GiB, 24 * GiB])).toEqual({
    budgetBytes: Math.floor(8 * GiB * 0.85),
    freeBytes: 24 * GiB,
  });
});

test("more than there is is refused before anything is loaded, by how much", () => {
  const machine = { totalBytes: 16e9, freeBytes: 9e9, boundBy: "cgroup" as const };
  const choice = (device: "cpu" | "webgpu", memory?: GraphicsMemory): DeviceChoice => {
    return { devices: [device], reason: "asked for", warnings: [], ...(memory && { memory }) };
  };
  const refused = (memoryBytes: number, on: DeviceChoice): string => {
    try {
      requireMemory({ memoryBytes }, on, machine);
      return "";
    } catch (error) {
      expect(error).toMatchObject({ code: "memory_exceeded" });
      return (error as Error).message;
    }
  };
  const eight = { budgetBytes: 6e9, freeBytes: 8e9 };
  expect(refused(16e9, choice("cpu"))).toBe("");
  expect(refused(17e9, choice("cpu"))).toBe(
    "17000000000 bytes of memory are asked for, but the cgroup has 16000000000, 1000000000 too little",
  );
  expect(refused(8e9, choice("webgpu", eight))).toBe("");
  expect(refused(9e9, choice("webgpu", eight))).toMatch(/but webgpu has 8000000000 free, 1000000000 too little$/);
  expect(refused(16e9, choice("webgpu", { budgetBytes: 60e9, freeBytes: 80e9 })), "more than the machine").toBe("");
  expect(refused(17e9, choice("webgpu"))).toMatch(/too little, and no driver says what the device has$/);
});
