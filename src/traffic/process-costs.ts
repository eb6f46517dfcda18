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

/** proc(5): clock ticks per second, the same on all Linux systems. */
const TICKS = 100;

/** Seconds that all threads of a process have computed since it began; null where the system does not tell. */
export function processorSeconds(pid: number): number | null {
  try {
    // The second field is a name in brackets that may hold anything; utime and stime are fields 14 and 15.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch {
    return null;
  }
}
