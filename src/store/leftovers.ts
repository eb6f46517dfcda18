import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

import type { BlobFolder } from "./blob-folder.ts";
import { errorCode } from "./storage-error.ts";

export interface Leftover {
  path: string;
  size: number;
  /** ms since 1970. */
  touchedAt: number;
}

/** Files that a process which died left behind, and files that a living one is writing: only their age tells which. */
export async function listLeftovers(folder: BlobFolder): Promise<Leftover[]> {
  const incoming = (await namesIn(folder.incoming)).map((name) => join(folder.incoming, name));
  const locks = (await namesIn(folder.root)).filter((name) => name.startsWith("index.lock."));
  const leftovers: Leftover[] = [];
  for (const path of [...incoming, ...locks.map((name) => join(folder.root, name))]) {
    const found = await statOrNull(path);
    if (found?.isFile()) leftovers.push({ path, size: found.size, touchedAt: found.mtimeMs });
  }
  return leftovers;
}

export async function removeLeftover(leftover: Leftover): Promise<void> {
  await rm(leftover.path, { force: true });
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}

async function statOrNull(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}
