import { readFileSync } from "node:fs";

/** How many files and sockets this process may have open; null where the system does not say (Linux does) or sets none. */
export function openFileLimit(): number | null {
  try {
    const match = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    return match ? Number(match[1]) : null;
  } catch (error) {
    if (["ENOENT", "EACCES", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}
