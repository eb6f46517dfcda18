import type { ElementType } from "../onnx/model.ts";
import { wordsOf } from "../fingerprint/element-stream.ts";
import { elementBits } from "../onnx/tensor-data.ts";

/**
 * The difference of two tensors as bytes that compress well, and back, for every bit pattern (FM-Delta, NeurIPS 2024): each
 * element is brought to an integer whose order is that of the values, subtracted modulo its width, folded so that small
 * differences of either sign are small numbers (zigzag), and cut into planes, most significant bytes last. What is left
 * over behind the last whole element is carried as XOR. Both tensors have the same length.
 */
export function encodeDelta(base: Uint8Array, exact: Uint8Array, dtype: ElementType): Uint8Array[] {
  const { width, isFloat } = layoutOf(dtype);
  const count = Math.floor(exact.length / width);
  const planes = Array.from({ length: width }, () => new Uint8Array(count));
  const rest = exact.slice(count * width).map((byte, at) => byte ^ base[count * width + at]!);
  const [a, b] = [wordsAt(base, width), wordsAt(exact, width)];
  const shift = 32 - 8 * width;
  for (let i = 0; i < count; i++) {
    const from = isFloat ? orderedFromFloat(a[i]!, shift) : a[i]!;
    const to = isFloat ? orderedFromFloat(b[i]!, shift) : b[i]!;
    const delta = ((to - from) << shift) >> shift;
    const folded = (delta << 1) ^ (delta >> 31);
    for (let plane = 0; plane < width; plane++) planes[plane]![i] = folded >>> (8 * plane);
  }
  return [...planes, rest];
}

/** The exact bytes again, from what `encodeDelta` gave. */
export function decodeDelta(base: Uint8Array, encoded: Uint8Array[], dtype: ElementType): Uint8Array {
  const { width, isFloat } = layoutOf(dtype);
  const planes = encoded.slice(0, width);
  const rest = encoded[width]!;
  const count = planes[0]!.length;
  const exact = new Uint8Array(count * width + rest.length);
  const [a, b] = [wordsAt(base, width), wordsAt(exact, width)];
  const shift = 32 - 8 * width;
  for (let i = 0; i < count; i++) {
    let folded = 0;
    for (let plane = 0; plane < width; plane++) folded |= planes[plane]![i]! << (8 * plane);
    const delta = (folded >>> 1) ^ -(folded & 1);
    const from = isFloat ? orderedFromFloat(a[i]!, shift) : a[i]!;
    const to = ((from + delta) << shift) >>> shift;
    b[i] = isFloat ? floatFromOrdered(to, shift) : to;
  }
  for (let at = 0; at < rest.length; at++) exact[count * width + at] = rest[at]! ^ base[count * width + at]!;
  return exact;
}

/** How elements are subtracted. 64-bit types go as two halves, packed 4-bit ones by bytes: lossless all the same. */
export function layoutOf(dtype: ElementType): { width: 1 | 2 | 4; isFloat: boolean } {
  if (dtype === "float32") return { width: 4, isFloat: true };
  if (dtype === "float16" || dtype === "bfloat16") return { width: 2, isFloat: true };
  const bits = dtype === "string" ? 8 : elementBits(dtype);
  return { width: bits >= 32 ? 4 : bits === 16 ? 2 : 1, isFloat: false };
}

/** Bits of a float to an integer in the order of the values: negative ones are turned round below the positive ones. */
function orderedFromFloat(bits: number, shift: number): number {
  const sign = (bits << shift) >> 31;
  return ((bits ^ (sign | (0x80000000 >>> shift))) << shift) >>> shift;
}

function floatFromOrdered(ordered: number, shift: number): number {
  const sign = ~((ordered << shift) >> 31);
  return ((ordered ^ (sign | (0x80000000 >>> shift))) << shift) >>> shift;
}

function wordsAt(bytes: Uint8Array, width: 1 | 2 | 4): Uint8Array | Uint16Array | Uint32Array {
  if (width === 1) return bytes;
  return width === 2 ? wordsOf(bytes, Uint16Array) : wordsOf(bytes, Uint32Array);
}
