import type { Digest } from "../blocks/block.ts";
import { type Clock, systemClock } from "../support/clock.ts";
import type { StoredBlob } from "./blob-store.ts";
import { readIndex, withIndexLock } from "./index-file.ts";
import { type Leftover, listLeftovers, removeLeftover } from "./leftovers.ts";
import { markReachable } from "./mark.ts";
import type { Repository } from "./repository.ts";

const HOUR_MS = 3_600_000;

export interface GarbageOptions {
  /** How long a blob that nothing refers to is left alone; a `split` must not take longer between a blob and its model. */
  graceMs?: number;
  /** Only say what would go. */
  dryRun?: boolean;
  clock?: Clock;
  signal?: AbortSignal;
}

export interface Garbage {
  dry_run: boolean;
  /** What went, or would go. */
  removed: { digest: Digest; bytes: number }[];
  removed_bytes: number;
  /** Half-written files of processes that died. */
  temporaries: number;
  /** Referred to by nothing, and younger than the grace period. */
  young_blobs: number;
  kept_blobs: number;
  kept_bytes: number;
}

/**
 * Mark and sweep, in an order that matters:
 *
 * 1. Lock the index. A model is put under the same lock, and its blobs are looked for there once more.
 * 2. Mark what the index reaches. A manifest that cannot be read stops everything: its model's blobs would be swept.
 * 3. Sweep what is not marked and older than the grace period. A writer works without the lock until its last moment;
 *    what protects its blobs is their age. One that finds an old, unmarked blob already there touches it instead of
 *    writing it (blob-writer.ts). Should that touch fall between our look at the age and our removal, the writer
 *    believes in a blob that is gone: then `putModel`, which waits for our lock, misses it and says `blob_missing`,
 *    and splitting again stores it. A model that lacks a blob never gets its name. With a grace of 0 that race is wide
 *    open, so 0 is for repositories at rest.
 * 4. Sweep half-written files by the same rule.
 */
export async function collectGarbage(repository: Repository, options: GarbageOptions = {}): Promise<Garbage> {
  const collect = () => markAndSweep(repository, options);
  if (options.dryRun) return await collect();
  return await withIndexLock(repository.blobs.folder, collect, options.signal ? { signal: options.signal } : {});
}

async function markAndSweep({ blobs }: Repository, options: GarbageOptions): Promise<Garbage> {
  const { graceMs = HOUR_MS, dryRun = false, clock = systemClock, signal } = options;
  const marked = await markReachable(blobs, await readIndex(blobs.folder));
  const isOld = (found: StoredBlob | Leftover) => clock.now() - found.touchedAt >= graceMs;

  const garbage: Garbage = {
    dry_run: dryRun,
    removed: [],
    removed_bytes: 0,
    temporaries: 0,
    young_blobs: 0,
    kept_blobs: 0,
    kept_bytes: 0,
  };
  for await (const blob of blobs.list()) {
    signal?.throwIfAborted();
    if (marked.has(blob.digest)) {
      garbage.kept_blobs++;
      garbage.kept_bytes += blob.size;
    } else if (!isOld(blob)) {
      garbage.young_blobs++;
    } else {
      if (!dryRun) await blobs.remove(blob.digest);
      garbage.removed.push({ digest: blob.digest, bytes: blob.size });
      garbage.removed_bytes += blob.size;
    }
  }
  for (const leftover of (await listLeftovers(blobs.folder)).filter(isOld)) {
    if (!dryRun) await removeLeftover(leftover);
    garbage.temporaries++;
  }
  return garbage;
}
