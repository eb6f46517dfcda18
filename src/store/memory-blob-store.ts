import type { Digest } from "../blocks/block.ts";
import { digestBytes } from "../fingerprint/digest.ts";
import type { BlobSource, BlobStore, PutManyOptions, StoredBlob } from "./blob-store.ts";
import type { Descriptor } from "./descriptor.ts";
import { blobMissing, blobWrongSize, sourceChanged } from "./storage-error.ts";

/** What BlobStore promises, as plainly as it can be written: the reference for other stores, and for tests. */
export class MemoryBlobStore implements BlobStore {
  readonly #blobs = new Map<Digest, { bytes: Uint8Array; touchedAt: number }>();

  async has(digest: Digest): Promise<boolean> {
    return this.#blobs.has(digest);
  }

  async size(digest: Digest): Promise<number> {
    return this.#get(digest).byteLength;
  }

  async read(digest: Digest, size?: number): Promise<Uint8Array> {
    const bytes = this.#get(digest);
    if (size !== undefined && bytes.byteLength !== size) throw blobWrongSize(digest, bytes.byteLength, size);
    return new Uint8Array(bytes);
  }

  async *stream(digest: Digest, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    signal?.throwIfAborted();
    yield new Uint8Array(this.#get(digest));
  }

  async put(bytes: Uint8Array, mediaType: string): Promise<Descriptor> {
    return await this.putStream({ mediaType, stream: () => [bytes] });
  }

  async putStream(source: BlobSource, signal?: AbortSignal): Promise<Descriptor> {
    const [descriptor] = await this.putMany([source], signal ? { signal } : {});
    return descriptor as Descriptor;
  }

  async putMany(sources: Iterable<BlobSource>, options: PutManyOptions = {}): Promise<Descriptor[]> {
    const descriptors: Descriptor[] = [];
    let total = 0;
    for (const source of sources) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of source.stream()) {
        options.signal?.throwIfAborted();
        chunks.push(chunk);
      }
      const bytes = Buffer.concat(chunks);
      if (source.size !== undefined && source.size !== bytes.length) throw sourceChanged(source.size, bytes.length);
      const descriptor = { mediaType: source.mediaType, digest: digestBytes(bytes), size: bytes.length };
      const reused = this.#blobs.has(descriptor.digest);
      this.#blobs.set(descriptor.digest, { bytes, touchedAt: Date.now() });
      descriptors.push(descriptor);
      total += bytes.length;
      options.onProgress?.({ descriptor, reused, blobs: descriptors.length, bytes: total });
    }
    return descriptors;
  }

  path(): null {
    return null;
  }

  async *list(): AsyncGenerator<StoredBlob> {
    for (const [digest, { bytes, touchedAt }] of this.#blobs) yield { digest, size: bytes.byteLength, touchedAt };
  }

  async remove(digest: Digest): Promise<boolean> {
    return this.#blobs.delete(digest);
  }

  #get(digest: Digest): Uint8Array {
    const found = this.#blobs.get(digest);
    if (!found) throw blobMissing(digest, "memory");
    return found.bytes;
  }
}
