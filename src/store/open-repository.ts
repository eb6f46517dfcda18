import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { BlockllmError } from "../support/errors.ts";
import { makeFolder } from "../support/make-folder.ts";
import { reasonOf } from "../support/reason.ts";
import { type BlobFolder, blobFolder, syncFolder } from "./blob-folder.ts";
import { withIndexLock, writeDurably } from "./index-file.ts";
import { Repository } from "./repository.ts";
import { errorCode, explainWriteError } from "./storage-error.ts";

const LAYOUT = { imageLayoutVersion: "1.0.0" };
const EMPTY_INDEX = { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [] };

/**
 * The repository in `root`. With `create` it is made when the folder is not there or empty. Throws
 * `repository_not_found`, or `repository_invalid` when the folder holds something else.
 */
export async function openRepository(root: string, options: { create?: boolean } = {}): Promise<Repository> {
  const folder = blobFolder(root);
  if (!(await isRepository(folder))) {
    if (!options.create) throw notFound(root);
    await createRepository(folder);
  }
  return new Repository(root);
}

async function isRepository(folder: BlobFolder): Promise<boolean> {
  const names = await namesIn(folder.root);
  if (names === null || !names.includes("oci-layout")) {
    if (names !== null && names.some((name) => !isOurs(name))) throw notOurs(folder.root);
    return false;
  }
  const layout = await readFile(join(folder.root, "oci-layout"), "utf8");
  if (!/"imageLayoutVersion"\s*:\s*"1\./.test(layout)) {
    throw new BlockllmError(
      "repository_invalid",
      `${folder.root}/oci-layout is of an unknown version: ${layout.slice(0, 80)}`,
      {
        hint: "blockllm reads OCI image layouts of version 1; choose another folder with --repo",
      },
    );
  }
  // A process that dies while it creates a repository leaves oci-layout last, so this one is whole.
  return true;
}

/** Under the lock, and oci-layout last: two processes that create one repository at once make one. */
async function createRepository(folder: BlobFolder): Promise<void> {
  try {
    await makeFolder(folder.blobs);
    await makeFolder(folder.incoming);
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw noPlace(folder, error);
    throw await explainWriteError(error, folder.root, 0);
  }
  await withIndexLock(folder, async () => {
    if (await isRepository(folder)) return;
    await writeDurably(folder, "index.json", EMPTY_INDEX);
    await writeDurably(folder, "oci-layout", LAYOUT);
    await syncFolder(join(folder.root, "blobs"));
  });
}

/** Some folders take none inside: those of /proc. */
function noPlace(folder: BlobFolder, cause: unknown): BlockllmError {
  return new BlockllmError("io_failed", `${folder.root} cannot be made: ${reasonOf(cause)}`, {
    hint: "choose another folder with --repo",
    cause,
  });
}

async function namesIn(root: string): Promise<string[] | null> {
  try {
    return await readdir(root);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    if (errorCode(error) === "ENOTDIR") throw notOurs(root);
    throw error;
  }
}

/** What a creation that was cut short may have left. */
function isOurs(name: string): boolean {
  return (
    name === "blobs" ||
    name === "incoming" ||
    name === "cache" ||
    name === "index.json" ||
    name.startsWith("index.lock")
  );
}

function notFound(root: string): BlockllmError {
  return new BlockllmError("repository_not_found", `there is no block repository at ${root}`, {
    hint: "`blockllm split <model>` makes one; --repo names another folder",
  });
}

function notOurs(root: string): BlockllmError {
  return new BlockllmError("repository_invalid", `${root} is not a block repository and holds other things`, {
    hint: "choose an empty or a new folder with --repo",
  });
}
