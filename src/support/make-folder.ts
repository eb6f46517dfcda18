import { existsSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Makes a folder and those above it; one that is there already is fine. Where a folder exists but takes none inside, as
 * /proc does, Node's own `recursive` never ends.
 */
export async function makeFolder(path: string): Promise<void> {
  const parent = dirname(path);
  if (!existsSync(parent)) await makeFolder(parent);
  try {
    await mkdir(path);
  } catch (error) {
    // Also where another process was faster.
    if (!existsSync(path) || !statSync(path).isDirectory()) throw error;
  }
}
