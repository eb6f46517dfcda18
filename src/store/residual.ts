import type { Digest } from "../blocks/block.ts";
import { digestBytes, digestFromHex, digestHex } from "../fingerprint/digest.ts";
import type { ElementType } from "../onnx/model.ts";
import { decodeDelta, encodeDelta, layoutOf } from "./integer-delta.ts";
import { reasonOf } from "../support/reason.ts";
import { blobCorrupt } from "./storage-error.ts";
import type { Zstd } from "./zstd.ts";

/*
 * A residual: one tensor as its lossless difference to a base tensor of equal type and length.
 *
 *   magic "blkres01" · sha256 of the exact bytes (32) · length of the exact bytes (u64)
 *   then per piece of up to 4 MiB of exact bytes, per plane: coding (u8: 0 as it is, 1 zstd) · length (u32) · bytes
 */
const MAGIC = Buffer.from("blkres01");
const HEADER_BYTES = MAGIC.length + 32 + 8;
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

/** The residual's bytes, in order. */
export async function* encodeResidual({ base, exact, dtype }: TensorPair, zstd: Zstd): AsyncGenerator<Uint8Array> {
  if (base.length !== exact.length) throw new Error(`a residual of ${exact.length} bytes on ${base.length}`);
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.write(digestHex(digestBytes(exact)), MAGIC.length, "hex");
  header.writeBigUInt64LE(BigInt(exact.length), HEADER_BYTES - 8);
  yield header;
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
  let bytes = 0;
  for await (const piece of encodeResidual(pair, zstd)) bytes += piece.length;
  return bytes;
}

/** The exact tensor from its base and its residual, checked against its digest: `blob_corrupt` when anything differs. */
export async function decodeResidual(
  { base, residual, dtype }: { base: Uint8Array; residual: Uint8Array; dtype: ElementType },
  zstd: Zstd,
): Promise<{ digest: Digest; exact: Uint8Array }> {
  const bytes = Buffer.from(residual.buffer, residual.byteOffset, residual.byteLength);
  const isResidual = bytes.length >= HEADER_BYTES && bytes.subarray(0, MAGIC.length).equals(MAGIC);
  if (!isResidual) throw blobCorrupt(digestBytes(residual), "it is no residual");
  const digest = digestFromHex(bytes.toString("hex", MAGIC.length, MAGIC.length + 32));
  const length = Number(bytes.readBigUInt64LE(HEADER_BYTES - 8));
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
  return { digest, exact };
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
