import { createReadStream } from "node:fs";
import { open, opendir, rm, stat } from "node:fs/promises";

import type { Digest } from "../blocks/block.ts";
import { digestBytes, isDigest, startDigest } from "../fingerprint/digest.ts";
import { makeFolder } from "../support/make-folder.ts";
import { type BlobFolder, blobFolder, blobPath, syncFolder } from "./blob-folder.ts";
import type { BlobSource, BlobStore, PutManyOptions, StoredBlob } from "./blob-store.ts";
import type { Descriptor } from "./descriptor.ts";
import { mapConcurrently } from "./limit-concurrency.ts";
import { rebuildTensor } from "./rebuild-tensor.ts";
import { blobCorrupt, blobMissing, blobWrongSize, errorCode } from "./storage-error.ts";
import { BlobWriter } from "./blob-writer.ts";

const READ_BYTES = 1 << 20;

/** Enough that reading, hashing and writing overlap; each blob in flight holds up to BUFFERED_BYTES (blob-writer.ts). */
const BLOBS_IN_FLIGHT = 8;

/** The residual blob that gives a tensor which has no blob of its own; null: there is none. */
export type FindResidual = (tensor: Digest) => Promise<Digest | null>;

/**
 * The blobs of an OCI image layout: `blobs/sha256/<hex>`, read-only files. A tensor that `findResidual` knows is read as
 * if it lay there; everything else about it (`has`, `size`, `path`) is about files.
 */
export class FileBlobStore implements BlobStore {
  readonly folder: BlobFolder;
  readonly #findResidual: FindResidual;

  constructor(root: string, findResidual: FindResidual = async () => null) {
    this.folder = blobFolder(root);
    this.#findResidual = findResidual;
  }

  path(digest: Digest): string {
    return blobPath(this.folder, digest);
  }

  async has(digest: Digest): Promise<boolean> {
    return (await this.#statOrNull(digest)) !== null;
  }

  async size(digest: Digest): Promise<number> {
    const found = await this.#statOrNull(digest);
    if (found === null) throw blobMissing(digest, this.folder.root);
    return found.size;
  }

  async read(digest: Digest, size?: number): Promise<Uint8Array> {
    const rebuilt = await this.#rebuildMissing(digest);
    if (rebuilt === null) return await this.#readFile(digest, size);
    if (size !== undefined && rebuilt.length !== size) throw blobWrongSize(digest, rebuilt.length, size);
    return rebuilt;
  }

  async #readFile(digest: Digest, size?: number): Promise<Uint8Array> {
    const handle = await this.#open(digest);
    try {
      const stored = (await handle.stat()).size;
      if (size !== undefined && stored !== size) throw blobWrongSize(digest, stored, size);
      const bytes = await handle.readFile();
      const actual = digestBytes(bytes);
      if (actual !== digest) throw blobCorrupt(digest, `its ${bytes.length} bytes hash to ${actual}`);
      return bytes;
    } finally {
      await handle.close();
    }
  }

  async *stream(digest: Digest, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const rebuilt = await this.#rebuildMissing(digest);
    if (rebuilt !== null) {
      for (let from = 0; from < rebuilt.length; from += READ_BYTES) yield rebuilt.subarray(from, from + READ_BYTES);
      return;
    }
    const running = startDigest();
    const handle = await this.#open(digest);
    for await (const chunk of createReadStream("", { fd: handle, highWaterMark: READ_BYTES, signal })) {
      running.update(chunk as Uint8Array);
      yield chunk as Uint8Array;
    }
    const actual = running.finish();
    if (actual !== digest) throw blobCorrupt(digest, `its bytes hash to ${actual}`);
  }

  async put(bytes: Uint8Array, mediaType: string): Promise<Descriptor> {
    return await this.putStream({ mediaType, stream: () => [bytes], size: bytes.byteLength });
  }

  async putStream(source: BlobSource, signal?: AbortSignal): Promise<Descriptor> {
    const [descriptor] = await this.putMany([source], signal ? { signal } : {});
    return descriptor as Descriptor;
  }

  async putMany(sources: Iterable<BlobSource>, options: PutManyOptions = {}): Promise<Descriptor[]> {
    await makeFolder(this.folder.blobs);
    await makeFolder(this.folder.incoming);
    const writer = new BlobWriter(this);
    let blobs = 0;
    let bytes = 0;
    const descriptors = await mapConcurrently(
      sources,
      async (source, signal) => {
        const { descriptor, reused } = await writer.store(source, signal);
        options.onProgress?.({ descriptor, reused, blobs: ++blobs, bytes: (bytes += descriptor.size) });
        return descriptor;
      },
      { limit: options.concurrency ?? BLOBS_IN_FLIGHT, signal: options.signal },
    );
    // One for all: nothing refers to the blobs of this call before it has resolved.
    await syncFolder(this.folder.blobs);
    return descriptors;
  }

  async *list(): AsyncGenerator<StoredBlob> {
    for await (const { name } of await opendir(this.folder.blobs)) {
      const digest = `sha256:${name}`;
      if (!isDigest(digest)) continue;
      const found = await this.#statOrNull(digest);
      if (found) yield { digest, size: found.size, touchedAt: found.mtimeMs };
    }
  }

  async remove(digest: Digest): Promise<boolean> {
    try {
      await rm(this.path(digest));
      return true;
    } catch (error) {
      if (errorCode(error) === "ENOENT") return false;
      throw error;
    }
  }

  /** A tensor from its residual, whether or not it lies there as a file too. Errors: as rebuildTensor. */
  async rebuild(tensor: Digest, residual: Digest): Promise<Uint8Array> {
    return await rebuildTensor({ tensor, residual }, async (digest) => await this.#readFile(digest));
  }

  async #rebuildMissing(tensor: Digest): Promise<Uint8Array | null> {
    if (await this.has(tensor)) return null;
    const residual = await this.#findResidual(tensor);
    return residual && (await this.rebuild(tensor, residual));
  }

  async #open(digest: Digest) {
    try {
      return await open(this.path(digest));
    } catch (error) {
      if (errorCode(error) === "ENOENT") throw blobMissing(digest, this.folder.root, error);
      throw error;
    }
  }

  async #statOrNull(digest: Digest) {
    try {
      return await stat(this.path(digest));
    } catch (error) {
      if (errorCode(error) === "ENOENT") return null;
      throw error;
    }
  }
}
