import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { takeChunk } from "../support/chunk-pool.ts";
import { BlockllmError } from "../support/errors.ts";
import type { ElementType, TensorInfo } from "./model.ts";
import { checkLimit } from "./limits.ts";

export { bfloat16ToFloat, floatToHalf, halfToFloat, toNumbers } from "./numbers.ts";

const ELEMENT_BITS: Record<Exclude<ElementType, "string">, number> = {
  float32: 32,
  uint8: 8,
  int8: 8,
  uint16: 16,
  int16: 16,
  int32: 32,
  int64: 64,
  bool: 8,
  float16: 16,
  float64: 64,
  uint32: 32,
  uint64: 64,
  bfloat16: 16,
  float8e4m3fn: 8,
  float8e5m2: 8,
  uint4: 4,
  int4: 4,
};

const MAX_OPEN_FILES = 16;
/** Path → descriptor, least recently used first. */
const openFiles = new Map<string, { descriptor: number; device: number; inode: number }>();

/** Bits one element takes; strings have no fixed size (`model_unsupported`). */
export function elementBits(dtype: ElementType): number {
  if (dtype !== "string") return ELEMENT_BITS[dtype];
  throw new BlockllmError("model_unsupported", "a string tensor has no fixed element size");
}

/** Number of elements; `model_too_large` beyond the rank and dimension limits or 2^53 elements. */
export function elementCount(dims: number[]): number {
  checkLimit("rank", dims.length, "rank of a tensor");
  const label = `dims [${dims.join(", ")}]`;
  let count = 1;
  for (const dim of dims) {
    if (!Number.isInteger(dim) || dim < 0) throw new BlockllmError("model_invalid", `${label}: ${dim} is not a size`);
    checkLimit("dimension", dim, label);
    count *= dim;
    checkLimit("elements", count, `${label}: elements`);
  }
  return count;
}

/** Bytes of a tensor as ONNX stores it: row-major, 4-bit types two per byte (low half first), rounded up. */
export function tensorBytes(dtype: ElementType, dims: number[]): number {
  return Math.ceil((elementCount(dims) * elementBits(dtype)) / 8);
}

/** Bytes the tensor has on disk or in memory; for strings the length of their encoding (see `TensorData`). */
export function storedBytes(tensor: TensorInfo): number {
  return tensor.data.kind === "bytes" ? tensor.data.bytes.length : tensor.data.length;
}

/** The whole tensor; in-memory bytes are given as they are and must not be written to. */
export function readTensor(tensor: TensorInfo): Uint8Array {
  const { data } = tensor;
  if (data.kind === "bytes") return data.bytes;
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(data.length).buffer, 0, data.length);
  readInto(bytes, tensor.name, { descriptor: descriptorFor(data.path), path: data.path, offset: data.offset });
  return bytes;
}

/**
 * `byteLength` bytes from `byteOffset` of the tensor, read synchronously. A range outside the tensor is a bug. Whoever
 * has no more use for them may give them back (`recycleChunk`).
 */
export function readTensorRange(tensor: TensorInfo, byteOffset: number, byteLength: number): Uint8Array {
  const available = storedBytes(tensor);
  if (byteOffset < 0 || byteLength < 0 || byteOffset + byteLength > available) {
    throw new Error(`${tensor.name}: bytes ${byteOffset} + ${byteLength} of ${available}`);
  }
  if (tensor.data.kind === "bytes") return tensor.data.bytes.subarray(byteOffset, byteOffset + byteLength);
  const bytes = takeChunk(byteLength);
  const { path, offset } = tensor.data;
  readInto(bytes, tensor.name, { descriptor: descriptorFor(path), path, offset: offset + byteOffset });
  return bytes;
}

function readInto(
  bytes: Uint8Array,
  name: string,
  { descriptor, path, offset }: { descriptor: number; path: string; offset: number },
): void {
  let done = 0;
  while (done < bytes.length) {
    const count = readSync(descriptor, bytes, done, bytes.length - done, offset + done);
    if (count === 0) throw fileShrank(name, path, done, bytes.length);
    done += count;
  }
}

/** Many short ranges of one tensor, read synchronously: its file is opened and looked at once. */
export class TensorRanges implements Disposable {
  readonly #tensor: TensorInfo;
  readonly #descriptor: number | null;

  constructor(tensor: TensorInfo) {
    this.#tensor = tensor;
    this.#descriptor = tensor.data.kind === "file" ? openData(tensor.data.path) : null;
  }

  /** Fills `target` from `byteOffset` of the tensor. A range outside the tensor is a bug. */
  read(byteOffset: number, target: Uint8Array): void {
    const { name, data } = this.#tensor;
    if (byteOffset < 0 || byteOffset + target.length > storedBytes(this.#tensor)) {
      throw new Error(`${name}: bytes ${byteOffset} + ${target.length} of ${storedBytes(this.#tensor)}`);
    }
    if (data.kind === "bytes") return target.set(data.bytes.subarray(byteOffset, byteOffset + target.length));
    readInto(target, name, { descriptor: this.#descriptor!, path: data.path, offset: data.offset + byteOffset });
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
  }
}

/** The tensor front to back in chunks of `chunkBytes` (the last one shorter); every chunk is the receiver's to keep. */
export async function* streamTensor(tensor: TensorInfo, chunkBytes = 2 ** 20): AsyncGenerator<Uint8Array> {
  const { data } = tensor;
  if (data.kind === "bytes") {
    for (let start = 0; start < data.bytes.length; start += chunkBytes) {
      yield data.bytes.subarray(start, start + chunkBytes);
    }
    return;
  }
  await using file = await open(data.path, "r");
  const readChunk = async (done: number): Promise<Uint8Array> => {
    const buffer = takeChunk(Math.min(chunkBytes, data.length - done));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, data.offset + done);
    if (bytesRead === 0 && buffer.length > 0) throw fileShrank(tensor.name, data.path, done, data.length);
    return buffer.subarray(0, bytesRead);
  };
  let ahead = readChunk(0);
  for (let done = 0; done < data.length;) {
    const chunk = await ahead;
    done += chunk.length;
    // The next read runs while the receiver works on this chunk: hashing goes from 0.8 to 1.2 GB/s.
    ahead = readChunk(done);
    // Its failure is met by the await above; a receiver that stops early never gets there and does not care.
    ahead.catch(() => undefined);
    yield chunk;
  }
}

/** Closes the descriptors that `readTensorRange` keeps; reading again opens them again. */
export function closeFiles(): void {
  for (const { descriptor } of openFiles.values()) closeSync(descriptor);
  openFiles.clear();
}

/** A kept descriptor serves only while the path still names the same file: a model may be replaced between reads. */
function descriptorFor(path: string): number {
  const known = openFiles.get(path);
  const now = statSync(path, { throwIfNoEntry: false });
  if (known) {
    openFiles.delete(path);
    if (now && now.ino === known.inode && now.dev === known.device) {
      openFiles.set(path, known);
      return known.descriptor;
    }
    closeSync(known.descriptor);
  }
  if (!now) throw fileGone(path);
  for (const [oldest, { descriptor }] of openFiles) {
    if (openFiles.size < MAX_OPEN_FILES) break;
    closeSync(descriptor);
    openFiles.delete(oldest);
  }
  const descriptor = openSync(path, "r");
  const { ino: inode, dev: device } = fstatSync(descriptor);
  openFiles.set(path, { descriptor, device, inode });
  return descriptor;
}

function openData(path: string): number {
  if (!existsSync(path)) throw fileGone(path);
  return openSync(path, "r");
}

function fileGone(path: string): BlockllmError {
  return new BlockllmError("external_data_missing", `${path}: the file is gone`);
}

function fileShrank(name: string, path: string, found: number, needed: number): BlockllmError {
  return new BlockllmError(
    "external_data_short",
    `${name}: ${path} ended after ${found} of ${needed} bytes; it changed while it was read`,
  );
}
