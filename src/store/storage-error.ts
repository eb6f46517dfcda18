import { statfs } from "node:fs/promises";

import type { Digest } from "../blocks/block.ts";
import { BlockllmError } from "../support/errors.ts";

/** What the operating system refused while writing into `folder`, said so that the reader can act; other errors as they are. */
export async function explainWriteError(error: unknown, folder: string, bytes: number): Promise<unknown> {
  switch (errorCode(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return new BlockllmError(
        "out_of_space",
        `no space left in ${folder}: a blob of ${bytes} bytes was to be written and ${await freeBytes(folder)} are free`,
        {
          hint: "free some space (`blockllm gc` removes what no model uses) or choose another folder with --repo",
          cause: error,
        },
      );
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new BlockllmError("io_failed", `${folder} cannot be written: ${(error as Error).message}`, {
        hint: "check the folder's owner and permissions, or choose another with --repo",
        cause: error,
      });
    case "ENOENT":
      return new BlockllmError("io_failed", `a half-written file in ${folder} was removed by another process`, {
        hint: "run the command again; `blockllm gc --grace 0` is for a repository that nobody is writing to",
        cause: error,
      });
    default:
      return error;
  }
}

export function blobMissing(digest: Digest, where: string, cause?: unknown): BlockllmError {
  return new BlockllmError("blob_missing", `${where} has no blob ${digest}`, {
    hint: "`blockllm check` lists what is missing; splitting the model again puts it back",
    cause,
  });
}

export function blobCorrupt(digest: Digest, what: string): BlockllmError {
  return new BlockllmError("blob_corrupt", `blob ${digest} is damaged: ${what}`, {
    hint: "`blockllm check` lists what is damaged; splitting the model again repairs it",
  });
}

export function blobWrongSize(digest: Digest, stored: number, expected: number): BlockllmError {
  return blobCorrupt(digest, `it has ${stored} bytes instead of ${expected}`);
}

export function sourceChanged(expected: number, given: number): BlockllmError {
  return new BlockllmError(
    "io_failed",
    `a source of ${expected} bytes gave ${given}: its file changed while it was read`,
    {
      hint: "run the command again when nothing else writes the model's files",
    },
  );
}

/** The code of a system error ("ENOENT"), else undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

async function freeBytes(folder: string): Promise<string> {
  try {
    const space = await statfs(folder);
    return `${space.bavail * space.bsize} bytes`;
  } catch {
    return "an unknown number of bytes";
  }
}
