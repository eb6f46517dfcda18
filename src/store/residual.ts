import type { Digest } from "../blocks/block.ts";
import { digestBytes, digestFromHex, digestHex } from "../fingerprint/digest.ts";
import { ELEMENT_TYPE_CODES } from "../onnx/fields.ts";
import type { ElementType } from "../onnx/model.ts";
import { decodeDelta, encodeDelta, layoutOf } from "./integer-delta.ts";
import { reasonOf } from "../support/reason.ts";
import { blobCorrupt } from "./storage-error.ts";
import type { Zstd } from "./zstd.ts";

/*
 * A residual: one tensor as its lossless difference to a base tensor of equal type and length.
 *
 *   magic "blkres02" · sha256 of the exact bytes (32) · sha256 of the base (32) · length of either (u64) · type (u8, as in
 *   onnx.proto), then per piece of up to 4 MiB of exact bytes, per plane: coding (u8: 0 as it is, 1 zstd) · length (u32) ·
 *   bytes
 */
const MAGIC = Buffer.from("blkres02");
const DIGEST_BYTES = 32;
const HEADER_BYTES = MAGIC.length + 2 * DIGEST_BYTES + 8 + 1;
const PLANE_HEADER_BYTES = 5;
/** A multiple of every element's width, so that no element is cut. */
const PIECE_BYTES = 4 << 20;
const RAW = 0;
const ZSTD = 1;

export interface TensorPair {
  base: Uint8Array;
  exact: Uint8Array;
  dtype: ElementType;
}

/** What a residual says it is. */
export interface ResidualHeader {
  exact: Digest;
  base: Digest;
  /** Of the exact bytes, and of the base. */
  bytes: number;
  dtype: ElementType;
}

/** The residual's bytes, in order. */
export async function* encodeResidual(pair: TensorPair, zstd: Zstd): AsyncGenerator<Uint8Array> {
  const { base, exact, dtype } = pair;
  if (base.length !== exact.length) throw new Error(`a residual of ${exact.length} bytes on ${base.length}`);
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.write(digestHex(digestBytes(exact)), MAGIC.length, "hex");
  header.write(digestHex(digestBytes(base)), MAGIC.length + DIGEST_BYTES, "hex");
  header.writeBigUInt64LE(BigInt(exact.length), HEADER_BYTES - 9);
  header.writeUInt8(ELEMENT_TYPE_CODES[dtype], HEADER_BYTES - 1);
  yield header;
  yield* encodePieces(pair, zstd);
}

async function* encodePieces({ base, exact, dtype }: TensorPair, zstd: Zstd): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < exact.length; from += PIECE_BYTES) {
    const to = from + PIECE_BYTES;
    for (const plane of encodeDelta(base.subarray(from, to), exact.subarray(from, to), dtype)) {
      const packed = looksRandom(plane) ? plane : await zstd.compress(plane);
      const isSmaller = packed.length < plane.length;
      const kept = isSmaller ? packed : plane;
      const planeHeader = Buffer.alloc(PLANE_HEADER_BYTES);
      planeHeader.writeUInt8(isSmaller ? ZSTD : RAW);
      planeHeader.writeUInt32LE(kept.length, 1);
      yield planeHeader;
      yield kept;
    }
  }
}

/** Bytes that the residual would take. */
export async function residualBytes(pair: TensorPair, zstd: Zstd): Promise<number> {
  let bytes = HEADER_BYTES;
  for await (const piece of encodePieces(pair, zstd)) bytes += piece.length;
  return bytes;
}

/** What the residual is of; `blob_corrupt` when it is none. `digest` names it in the error. */
export function readResidualHeader(residual: Uint8Array, digest: Digest): ResidualHeader {
  const bytes = asBuffer(residual);
  const dtype = DTYPES.get(bytes[HEADER_BYTES - 1] ?? 0);
  const isResidual = bytes.length >= HEADER_BYTES && bytes.subarray(0, MAGIC.length).equals(MAGIC);
  if (!isResidual || dtype === undefined) throw blobCorrupt(digest, "it is no residual");
  const digestAt = (at: number) => digestFromHex(bytes.toString("hex", at, at + DIGEST_BYTES));
  return {
    exact: digestAt(MAGIC.length),
    base: digestAt(MAGIC.length + DIGEST_BYTES),
    bytes: Number(bytes.readBigUInt64LE(HEADER_BYTES - 9)),
    dtype,
  };
}

/** The exact tensor from its base and its residual, checked against its digest: `blob_corrupt` when anything differs. */
export async function decodeResidual(
  { base, residual, header }: { base: Uint8Array; residual: Uint8Array; header: ResidualHeader },
  zstd: Zstd,
): Promise<Uint8Array> {
  const bytes = asBuffer(residual);
  const { exact: digest, bytes: length, dtype } = header;
  if (length !== base.length)
    throw blobCorrupt(digest, `its residual is for ${length} bytes, the base has ${base.length}`);
  const exact = new Uint8Array(length);
  let at = HEADER_BYTES;
  const nextPlane = async (): Promise<Uint8Array> => {
    if (at + PLANE_HEADER_BYTES > bytes.length) throw blobCorrupt(digest, "its residual ends too early");
    const coding = bytes.readUInt8(at);
    const from = at + PLANE_HEADER_BYTES;
    at = from + bytes.readUInt32LE(at + 1);
    if (at > bytes.length) throw blobCorrupt(digest, "its residual ends too early");
    const stored = bytes.subarray(from, at);
    if (coding !== ZSTD) return stored;
    return await zstd.decompress(stored).catch((cause: unknown) => {
      throw blobCorrupt(digest, `zstd cannot read its residual: ${reasonOf(cause)}`);
    });
  };
  for (let from = 0; from < length; from += PIECE_BYTES) {
    const piece = base.subarray(from, from + PIECE_BYTES);
    const planes: Uint8Array[] = [];
    for (let plane = 0; plane <= layoutOf(dtype).width; plane++) planes.push(await nextPlane());
    const decoded = decodeDelta(piece, planes, dtype);
    if (decoded.length !== piece.length) throw blobCorrupt(digest, "a piece of its residual has another length");
    exact.set(decoded, from);
  }
  const actual = digestBytes(exact);
  if (actual !== digest) throw blobCorrupt(digest, `its residual gives bytes that hash to ${actual}`);
  return exact;
}

const DTYPES = new Map(Object.entries(ELEMENT_TYPE_CODES).map(([name, code]) => [code as number, name as ElementType]));

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const SAMPLED_BYTES = 1 << 16;
const RANDOM_ENTROPY_BITS = 7.9;

/** Mantissa bytes of trained weights: zstd would look through all of them for nothing. */
function looksRandom(plane: Uint8Array): boolean {
  if (plane.length < SAMPLED_BYTES) return false;
  const counts = new Uint32Array(256);
  for (let i = 0; i < SAMPLED_BYTES; i++) counts[plane[i]!]!++;
  let entropy = 0;
  for (const count of counts) if (count > 0) entropy -= (count / SAMPLED_BYTES) * Math.log2(count / SAMPLED_BYTES);
  return entropy > RANDOM_ENTROPY_BITS;
}
