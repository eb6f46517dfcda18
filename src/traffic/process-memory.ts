import { readFileSync } from "node:fs";

/**
 * Proportional set size of a process in bytes, all threads: memory it has for itself, and its part of what it shares.
 * null where the system does not tell (not Linux, another user's process).
 */
export function processMemory(pid: number): number | null {
  try {
    const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    return match ? Number(match[1]) * 1024 : null;
  } catch {
    return null;
  }
}
