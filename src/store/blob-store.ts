import type { Digest } from "../blocks/block.ts";
import type { Descriptor } from "./descriptor.ts";

/**
 * Immutable bytes by digest. What every store guarantees, and the conformance suite holds it to:
 * a blob is either there whole or not there; what is read is what was hashed; putting the same bytes twice, even at
 * the same time from several processes, is the same as once.
 */
export interface BlobStore {
  /** Changes nothing. True says that the blob is there, not that its bytes are intact: only `read` and `stream` know. */
  has(digest: Digest): Promise<boolean>;

  /** Bytes of the blob, from metadata. Changes nothing. `blob_missing` when it is not there. */
  size(digest: Digest): Promise<number>;

  /**
   * The whole blob, verified; for documents and graphs, not for tensors, which may be larger than memory. Changes
   * nothing. `blob_missing`, or `blob_corrupt` when a byte differs or, before any is read, when it is not `size` long.
   */
  read(digest: Digest, size?: number): Promise<Uint8Array>;

  /**
   * The blob in chunks, in bounded memory. The digest is known only at the end: `blob_corrupt` is thrown in place of
   * the end, so what was received counts only once the loop has finished.
   */
  stream(digest: Digest, signal?: AbortSignal): AsyncIterable<Uint8Array>;

  /** Stores the bytes. When it resolves the blob survives a power cut. `out_of_space` leaves nothing behind. */
  put(bytes: Uint8Array, mediaType: string): Promise<Descriptor>;

  /** As `put`, for bytes of any length in bounded memory. A source that throws leaves nothing behind. */
  putStream(source: BlobSource, signal?: AbortSignal): Promise<Descriptor>;

  /**
   * As `putStream` for many, several at once, in the order of `sources`, which is pulled only as fast as they are
   * stored. When it resolves all of them survive a power cut; when it rejects, with the first error, those already
   * stored stay (they are garbage until a model names them) and nothing half-written does.
   */
  putMany(sources: Iterable<BlobSource>, options?: PutManyOptions): Promise<Descriptor[]>;

  /** Where the blob's file is, whether or not it exists: for ONNX Runtime, which maps files. null: no files here. */
  path(digest: Digest): string | null;

  /** Every blob, in no order. Blobs put or removed meanwhile may or may not be seen. Changes nothing. */
  list(): AsyncIterable<StoredBlob>;

  /** Forgets the blob; true when it was there. Whoever calls makes sure that nothing refers to it (collect-garbage.ts). */
  remove(digest: Digest): Promise<boolean>;
}

export interface BlobSource {
  mediaType: string;
  /** Opens the bytes from the start. May be called twice. The store keeps the chunks: do not change them afterwards. */
  stream(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** Bytes it will give, where known. It saves work (a blob that may exist already is hashed before it is written). */
  size?: number;
}

export interface PutManyOptions {
  /** Blobs in flight; each holds a few MiB. */
  concurrency?: number;
  signal?: AbortSignal;
  onProgress?: (progress: PutProgress) => void;
}

/** One blob of `putMany` is done. */
export interface PutProgress {
  descriptor: Descriptor;
  /** The blob was there before: nothing was written. */
  reused: boolean;
  /** So far, of this `putMany`. */
  blobs: number;
  bytes: number;
}

export interface StoredBlob {
  digest: Digest;
  size: number;
  /** When the blob was last written or put again, ms since 1970. */
  touchedAt: number;
}
