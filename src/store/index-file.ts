import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { BlockllmError } from "../support/errors.ts";
import { type BlobFolder, syncFolder } from "./blob-folder.ts";
import { type Index, indexSchema } from "./document-schemas.ts";
import { parseDocument } from "./documents.ts";
import { type LockOptions, withLock } from "./lock.ts";
import { errorCode, explainWriteError } from "./storage-error.ts";

/** Of the repository in `root`. It names every model: the only file of a repository that changes. */
export function indexPath(root: string): string {
  return join(root, "index.json");
}

export async function readIndex(folder: BlobFolder): Promise<Index> {
  const path = indexPath(folder.root);
  try {
    return parseDocument(await readFile(path), indexSchema, path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    throw new BlockllmError("repository_invalid", `${folder.root} has no index.json`, {
      hint: "restore the file, or split the models into a new folder with --repo",
      cause: error,
    });
  }
}

/**
 * Reads, changes and writes index.json while no other process does: two that change it at once would otherwise each
 * write what they had read, and one would lose its model. `change` gives null to leave the file alone.
 */
export async function updateIndex(
  folder: BlobFolder,
  change: (index: Index) => Promise<Index | null>,
  options: LockOptions = {},
): Promise<void> {
  await withIndexLock(
    folder,
    async () => {
      const changed = await change(await readIndex(folder));
      if (changed) await writeDurably(folder, "index.json", changed);
    },
    options,
  );
}

export async function withIndexLock<T>(
  folder: BlobFolder,
  work: () => Promise<T>,
  options: LockOptions = {},
): Promise<T> {
  return await withLock(join(folder.root, "index.lock"), work, options);
}

/** The file is the old one or the new one, whenever the power goes. */
export async function writeDurably(folder: BlobFolder, name: string, document: object): Promise<void> {
  const incoming = join(folder.incoming, `${process.pid}-${randomUUID()}`);
  const bytes = Buffer.from(`${JSON.stringify(document, null, 2)}\n`);
  try {
    const handle = await open(incoming, "wx");
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(incoming, join(folder.root, name));
    await syncFolder(folder.root);
  } catch (error) {
    await rm(incoming, { force: true });
    throw await explainWriteError(error, folder.root, bytes.length);
  }
}
