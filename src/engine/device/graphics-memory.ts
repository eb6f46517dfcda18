import { readdirSync, readFileSync } from "node:fs";
import { listCudaDevices } from "./find-devices.ts";

/** Of what is free: the rest is for rows that run between segments, and for what else the device shows. */
const SHARE = 0.85;
const CARDS = "/sys/class/drm";
/** Below it stands what a processor's own graphics sets aside of the machine's memory: it has the rest, too. */
const OWN_MEMORY = 2 * 2 ** 30;

export interface GraphicsMemory {
  /** For weights, keys and values where nobody says. */
  budgetBytes: number;
  /** No device has more free. */
  freeBytes: number;
}

/**
 * null: no driver says what it has, as with devices that share the machine's memory. WebGPU does not say which of several
 * devices it takes: the one with the least free memory sets the budget.
 */
export function graphicsMemory(
  freeBytes: readonly number[] = [...listCudaDevices().map((device) => device.freeBytes), ...amdFreeBytes(CARDS)],
): GraphicsMemory | null {
  if (freeBytes.length === 0) return null;
  return { budgetBytes: Math.floor(Math.min(...freeBytes) * SHARE), freeBytes: Math.max(...freeBytes) };
}

/** Linux's amdgpu driver keeps a file per number; cards of other drivers have none. `cards` is /sys/class/drm. */
export function amdFreeBytes(cards: string): number[] {
  return namesIn(cards)
    .filter((name) => /^card\d+$/.test(name))
    .flatMap((card) => {
      const [total, used] = ["total", "used"].map((what) => numberIn(`${cards}/${card}/device/mem_info_vram_${what}`));
      return total! >= OWN_MEMORY && used! >= 0 ? [total! - used!] : [];
    });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** NaN where there is none. */
function numberIn(path: string): number {
  try {
    return Number.parseInt(readFileSync(path, "utf8"), 10);
  } catch {
    return Number.NaN;
  }
}
