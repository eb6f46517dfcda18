import { open } from "node:fs/promises";

/** Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3. */
const VERSION = 3;
const ALIGNMENT = 32;
const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const;
const TENSOR_TYPES = { F32: 0, Q8_0: 8 } as const;

export type GgufValue =
  | { uint32: number }
  | { float32: number }
  | { string: string }
  | { int32s: number[] }
  | { float32s: number[] }
  | { strings: string[] };

export interface GgufTensor {
  name: string;
  /** The fastest first, as ggml counts. */
  dims: number[];
  type: keyof typeof TENSOR_TYPES;
  byteLength: number;
  /** Asked once, when it is written. */
  bytes: () => Uint8Array;
}

/** Writes a GGUF file, one tensor in memory at a time. */
export async function writeGguf(
  path: string,
  { metadata, tensors }: { metadata: Record<string, GgufValue>; tensors: readonly GgufTensor[] },
): Promise<void> {
  await using file = await open(path, "w");
  await file.writeFile(headerOf(metadata, tensors));
  for (const { name, byteLength, bytes } of tensors) {
    const data = bytes();
    if (data.length !== byteLength) throw new Error(`${name} has ${data.length} bytes, not ${byteLength}`);
    await file.writeFile(padded(data));
  }
}

function headerOf(metadata: Record<string, GgufValue>, tensors: readonly GgufTensor[]): Uint8Array {
  const pieces: Uint8Array[] = [Buffer.from("GGUF"), uint32(VERSION), uint64(tensors.length)];
  pieces.push(uint64(Object.keys(metadata).length));
  for (const [key, value] of Object.entries(metadata)) pieces.push(text(key), ...valueBytes(value));
  let offset = 0;
  for (const { name, dims, type, byteLength } of tensors) {
    pieces.push(text(name), uint32(dims.length), ...dims.map(uint64), uint32(TENSOR_TYPES[type]), uint64(offset));
    offset += aligned(byteLength);
  }
  return padded(Buffer.concat(pieces));
}

function valueBytes(value: GgufValue): Uint8Array[] {
  const array = (type: number, count: number): Uint8Array[] => [uint32(VALUE_TYPES.array), uint32(type), uint64(count)];
  if ("uint32" in value) return [uint32(VALUE_TYPES.uint32), uint32(value.uint32)];
  if ("float32" in value) return [uint32(VALUE_TYPES.float32), bytesOf(Float32Array.of(value.float32))];
  if ("string" in value) return [uint32(VALUE_TYPES.string), text(value.string)];
  if ("int32s" in value)
    return [...array(VALUE_TYPES.int32, value.int32s.length), bytesOf(Int32Array.from(value.int32s))];
  if ("float32s" in value)
    return [...array(VALUE_TYPES.float32, value.float32s.length), bytesOf(Float32Array.from(value.float32s))];
  return [...array(VALUE_TYPES.string, value.strings.length), ...value.strings.map(text)];
}

function bytesOf({ buffer }: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(buffer);
}

function text(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function uint64(value: number): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
}

function padded(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, new Uint8Array(aligned(bytes.length) - bytes.length)]);
}

function aligned(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}
