import { readFile, stat, utimes } from "node:fs/promises";

import type { Digest } from "../blocks/block.ts";
import { startDigest } from "../fingerprint/digest.ts";
import { recycleChunk } from "../support/chunk-pool.ts";
import { BlockllmError } from "../support/errors.ts";
import type { BlobSource } from "./blob-store.ts";
import type { Descriptor } from "./descriptor.ts";
import type { FileBlobStore } from "./file-blob-store.ts";
import { IncomingFile } from "./incoming-file.ts";
import { limitConcurrency } from "./limit-concurrency.ts";
import { errorCode, sourceChanged } from "./storage-error.ts";

/** A blob up to this size is hashed before its file is opened, so that one already there costs no write at all. */
const BUFFERED_BYTES = 4 << 20;

/** libuv has four threads for all file work: with more syncs at a time, reads and writes would wait behind them. */
const SYNCS_IN_FLIGHT = 2;

/**
 * Writes the blobs of one `putMany`. The order is what survives a crash: bytes into `incoming/`, hashed on the way;
 * fsync; only then the rename to the digest's name. A name in `blobs/` is therefore always a whole blob. The caller
 * syncs the folder afterwards, once for all, reused blobs too: another process may have renamed one a moment ago.
 */
export class BlobWriter {
  readonly #store: FileBlobStore;
  readonly #sync = limitConcurrency(SYNCS_IN_FLIGHT);
  /** Digests of blobs that this writer has written or read back whole: equal weights are looked at once. */
  readonly #intact = new Set<Digest>();
  #storedSizes: Promise<Set<number>> | null = null;

  constructor(store: FileBlobStore) {
    this.#store = store;
  }

  async store(source: BlobSource, signal: AbortSignal): Promise<{ descriptor: Descriptor; reused: boolean }> {
    const known = await this.#hashFirst(source, signal);
    if (known && (await this.#reuse(known, null))) return { descriptor: known, reused: true };

    const running = startDigest();
    const incoming = new IncomingFile(this.#store.folder, source.size ?? 0);
    let buffered: Uint8Array[] = [];
    let bufferedBytes = 0;
    let size = 0;
    try {
      for await (const chunk of source.stream()) {
        signal.throwIfAborted();
        running.update(chunk);
        size += chunk.byteLength;
        buffered.push(chunk);
        bufferedBytes += chunk.byteLength;
        if (bufferedBytes < BUFFERED_BYTES) continue;
        await incoming.write(buffered);
        buffered.forEach(recycleChunk);
        buffered = [];
        bufferedBytes = 0;
      }
      const descriptor = { mediaType: source.mediaType, digest: running.finish(), size };
      if (source.size !== undefined && source.size !== size) throw sourceChanged(source.size, size);
      if (await this.#reuse(descriptor, incoming.opened ? null : buffered)) {
        await incoming.discard();
        buffered.forEach(recycleChunk);
        return { descriptor, reused: true };
      }
      await incoming.write(buffered);
      buffered.forEach(recycleChunk);
      await this.#sync(() => incoming.sync());
      await incoming.renameTo(this.#store.path(descriptor.digest));
      this.#intact.add(descriptor.digest);
      return { descriptor, reused: false };
    } catch (error) {
      await incoming.discard();
      throw error;
    }
  }

  /** The descriptor of a large source that may be there already, found by reading it once more; else null. */
  async #hashFirst(source: BlobSource, signal: AbortSignal): Promise<Descriptor | null> {
    if (source.size === undefined || source.size <= BUFFERED_BYTES) return null;
    this.#storedSizes ??= sizesOf(this.#store);
    if (!(await this.#storedSizes).has(source.size)) return null;
    const running = startDigest();
    for await (const chunk of source.stream()) {
      signal.throwIfAborted();
      running.update(chunk);
      recycleChunk(chunk);
    }
    return { mediaType: source.mediaType, digest: running.finish(), size: source.size };
  }

  /**
   * True when the blob is there and intact, and now protected from garbage collection as if just written. One that is
   * there and damaged (a bad disk, a hand, a file system that lost its tail) gives false and is replaced: the rename
   * of the good file over it is the repair.
   */
  async #reuse(descriptor: Descriptor, bytes: Uint8Array[] | null): Promise<boolean> {
    const path = this.#store.path(descriptor.digest);
    try {
      if ((await stat(path)).size !== descriptor.size) return false;
      // Before the bytes are looked at: a collection that starts from here on sees a young blob (collect-garbage.ts).
      const now = new Date();
      await utimes(path, now, now);
      return bytes ? holds(await readFile(path), bytes) : await this.#isIntact(descriptor.digest);
    } catch (error) {
      // ENOENT: new. EPERM: another user's, whose time only they can touch; a fresh file of our own replaces it.
      if (errorCode(error) === "ENOENT" || errorCode(error) === "EPERM") return false;
      throw error;
    }
  }

  async #isIntact(digest: Digest): Promise<boolean> {
    if (this.#intact.has(digest)) return true;
    try {
      for await (const chunk of this.#store.stream(digest)) void chunk;
      this.#intact.add(digest);
      return true;
    } catch (error) {
      if (error instanceof BlockllmError && (error.code === "blob_corrupt" || error.code === "blob_missing"))
        return false;
      throw error;
    }
  }
}

async function sizesOf(store: FileBlobStore): Promise<Set<number>> {
  const sizes = new Set<number>();
  for await (const blob of store.list()) sizes.add(blob.size);
  return sizes;
}

function holds(stored: Uint8Array, chunks: Uint8Array[]): boolean {
  let at = 0;
  for (const chunk of chunks) {
    if (Buffer.compare(stored.subarray(at, at + chunk.byteLength), chunk) !== 0) return false;
    at += chunk.byteLength;
  }
  return at === stored.byteLength;
}
