import { readFileSync } from "node:fs";

/**
 * Proportional set size of this process, all threads: memory it has for itself, and its part of what it shares with others.
 * null where the system does not say (Linux does). https://docs.kernel.org/filesystems/proc.html
 */
export function proportionalSetBytes(): number | null {
  try {
    const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"));
    return match ? Number(match[1]) * 1024 : null;
  } catch (error) {
    if (["ENOENT", "EACCES", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}
