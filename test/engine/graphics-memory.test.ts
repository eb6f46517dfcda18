import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { amdFreeBytes, graphicsMemory } from "../../src/engine/device/graphics-memory.ts";

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
  expect(graphicsMemory([8 * GiB, 24 * GiB])).toBe(Math.floor(8 * GiB * 0.85));
});
