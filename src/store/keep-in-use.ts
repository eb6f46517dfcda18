import { utimes } from "node:fs/promises";

import type { Digest } from "../blocks/block.ts";
import { readIndex } from "./index-file.ts";
import { markReachable } from "./mark.ts";
import { modelNameOf } from "./model-name.ts";
import type { Repository } from "./repository.ts";
import { errorCode } from "./storage-error.ts";

/** Well within the grace that garbage collection gives by default, an hour. */
const TOUCH_MS = 5 * 60_000;

/** Of a process that reads blobs again and again, as `serve` does. */
export interface InUse {
  /** From now on it needs these models as they are in the repository now. Blobs of those before are let go. */
  use(models: readonly string[]): Promise<void>;
  stop(): void;
}

/**
 * Keeps garbage collection from blobs that a running process needs though no model in the index does any more: their
 * models were removed, or replaced. As with a writer, their age is what protects them (collect-garbage.ts). In a
 * repository that may only be read nothing is touched. `onError` hears what goes wrong later than in `use`.
 */
export function keepInUse(
  repository: Repository,
  { onError, everyMs = TOUCH_MS }: { onError: (error: unknown) => void; everyMs?: number },
): InUse {
  const { blobs } = repository;
  let used: readonly Digest[] = [];
  const touch = async (): Promise<void> => {
    const now = new Date();
    for (const digest of used) await touchFile(blobs.path(digest), now);
  };
  const timer = setInterval(() => void touch().catch(onError), everyMs);
  timer.unref();
  return {
    use: async (models) => {
      const names = new Set(models);
      const index = await readIndex(blobs.folder);
      const manifests = index.manifests.filter((found) => names.has(modelNameOf(found) ?? ""));
      used = [...(await markReachable(blobs, { ...index, manifests })).keys()];
      await touch();
    },
    stop: () => clearInterval(timer),
  };
}

const NOT_OURS_TO_TOUCH = ["ENOENT", "EPERM", "EACCES", "EROFS"];

async function touchFile(path: string, now: Date): Promise<void> {
  try {
    await utimes(path, now, now);
  } catch (error) {
    if (!NOT_OURS_TO_TOUCH.includes(errorCode(error) ?? "")) throw error;
  }
}
