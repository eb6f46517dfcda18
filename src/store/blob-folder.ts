import { open } from "node:fs/promises";
import { join } from "node:path";

import type { Digest } from "../blocks/block.ts";
import { digestHex } from "../fingerprint/digest.ts";

/** Where a repository keeps its blobs, and where those lie that are still being written. */
export interface BlobFolder {
  /** The repository. */
  root: string;
  blobs: string;
  /** On the same file system as `blobs`, since a rename from one to the other must be atomic. */
  incoming: string;
}

export function blobFolder(root: string): BlobFolder {
  return { root, blobs: join(root, "blobs", "sha256"), incoming: join(root, "incoming") };
}

export function blobPath(folder: BlobFolder, digest: Digest): string {
  return join(folder.blobs, digestHex(digest));
}

/** Makes renames into the folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows opens no folders, and its file systems order metadata themselves.
  if (process.platform === "win32") return;
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
