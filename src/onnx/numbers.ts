import { BlockllmError } from "../support/errors.ts";
import type { ElementType } from "./model.ts";
import { wideToNumber } from "./wide-integer.ts";

/**
 * Element values as doubles; int64 as `wideToNumber` gives them, uint64 beyond 2^53 and strings are
 * `model_unsupported`. 4-bit types give two values per byte, so a tensor with an odd count has one too many: pass
 * `count` to cut it.
 */
export function toNumbers(bytes: Uint8Array, dtype: ElementType, count?: number): Float64Array {
  const numbers = DECODERS[dtype](bytes);
  return count === undefined || count === numbers.length ? numbers : numbers.slice(0, count);
}

/** The value of an IEEE 754 binary16 code. */
export function halfToFloat(half: number): number {
  return halves()[half]!;
}

/** The value of a bfloat16 code: the upper half of a float32. */
export function bfloat16ToFloat(code: number): number {
  floatBits[0] = code << 16;
  return floatValue[0]!;
}

/** The binary16 code nearest to `value`, ties to even; beyond 65504 + 15 it is an infinity. */
export function floatToHalf(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundToEven(size * 2 ** 24);
  floatValue[0] = size;
  // Rounding to float32 first may reach the next power of two, where the code is the same from either side.
  const exponent = (floatBits[0]! >>> 23) - 127;
  return sign + ((exponent + 15) << 10) + roundToEven(size * 2 ** (10 - exponent)) - 1024;
}

const floatValue = new Float32Array(1);
const floatBits = new Uint32Array(floatValue.buffer);
let halfTable: Float32Array | undefined;

const DECODERS: Record<ElementType, (bytes: Uint8Array) => Float64Array> = {
  float32: (bytes) => new Float64Array(aligned(bytes, Float32Array)),
  float64: (bytes) => new Float64Array(aligned(bytes, Float64Array)),
  uint8: (bytes) => new Float64Array(bytes),
  bool: (bytes) => new Float64Array(bytes),
  int8: (bytes) => new Float64Array(aligned(bytes, Int8Array)),
  uint16: (bytes) => new Float64Array(aligned(bytes, Uint16Array)),
  int16: (bytes) => new Float64Array(aligned(bytes, Int16Array)),
  uint32: (bytes) => new Float64Array(aligned(bytes, Uint32Array)),
  int32: (bytes) => new Float64Array(aligned(bytes, Int32Array)),
  uint64: (bytes) => wide(bytes, unsignedToNumber),
  int64: (bytes) => wide(bytes, (low, high) => wideToNumber(low, high | 0, () => "an int64 element")),
  float16: (bytes) => mapped(aligned(bytes, Uint16Array), halfToFloat),
  bfloat16: (bytes) => mapped(aligned(bytes, Uint16Array), bfloat16ToFloat),
  float8e4m3fn: (bytes) => mapped(bytes, (code) => ((code & 0x7f) === 0x7f ? NaN : smallFloat(code, 4, 3))),
  float8e5m2: (bytes) => mapped(bytes, (code) => halfToFloat(code << 8)),
  uint4: (bytes) => nibbles(bytes, (nibble) => nibble),
  int4: (bytes) => nibbles(bytes, (nibble) => (nibble << 28) >> 28),
  string: () => {
    throw new BlockllmError("model_unsupported", "a string tensor has no numbers");
  },
};

function unsignedToNumber(low: number, high: number): number {
  if (high < 0x200000) return high * 2 ** 32 + low;
  throw new BlockllmError("model_unsupported", `a uint64 element is beyond ${Number.MAX_SAFE_INTEGER}`);
}

function mapped(codes: Uint8Array | Uint16Array, value: (code: number) => number): Float64Array {
  const numbers = new Float64Array(codes.length);
  for (let index = 0; index < codes.length; index++) numbers[index] = value(codes[index]!);
  return numbers;
}

/** A typed view on the bytes; typed arrays need aligned offsets, so an odd place in a buffer is copied first. */
function aligned<T>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  const source = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new type(source.buffer, source.byteOffset, Math.floor(source.length / type.BYTES_PER_ELEMENT));
}

function nibbles(bytes: Uint8Array, value: (nibble: number) => number): Float64Array {
  const numbers = new Float64Array(bytes.length * 2);
  for (let index = 0; index < numbers.length; index++) {
    const byte = bytes[index >>> 1]!;
    numbers[index] = value(index % 2 === 0 ? byte & 15 : byte >>> 4);
  }
  return numbers;
}

function wide(bytes: Uint8Array, value: (low: number, high: number) => number): Float64Array {
  const words = aligned(bytes, Uint32Array);
  const numbers = new Float64Array(words.length >>> 1);
  for (let index = 0; index < numbers.length; index++) {
    numbers[index] = value(words[2 * index]!, words[2 * index + 1]!);
  }
  return numbers;
}

function halves(): Float32Array {
  halfTable ??= Float32Array.from({ length: 0x10000 }, (_, code) =>
    (code & 0x7c00) === 0x7c00 ? infinityOrNaN(code) : smallFloat(code, 5, 10),
  );
  return halfTable;
}

function infinityOrNaN(half: number): number {
  if ((half & 0x3ff) !== 0) return NaN;
  return half & 0x8000 ? -Infinity : Infinity;
}

/** A finite IEEE-like code of 1 sign bit, `exponentBits` and `mantissaBits`. */
function smallFloat(code: number, exponentBits: number, mantissaBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = (code >>> (exponentBits + mantissaBits)) & 1 ? -1 : 1;
  const exponent = (code >>> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = (code & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  return sign * (exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias));
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
