import type { ElementType } from "../onnx/model.ts";
import { halfToFloat, toNumbers } from "../onnx/numbers.ts";
import { elementBits } from "../onnx/tensor-data.ts";

/** Types whose elements are values on a line: what a cosine or a difference means something for. */
export function isFloat(dtype: ElementType): boolean {
  return dtype === "float32" || dtype === "float16" || dtype === "bfloat16" || dtype === "float64";
}

/**
 * The elements of a tensor as float32, chunk by chunk as its bytes come; an element cut by a chunk's end comes with the
 * next. Unsigned codes are centred, since the midpoint they have in common would make any two tensors look alike.
 */
export class ElementStream {
  readonly #dtype: ElementType;
  readonly #width: number;
  #cut = new Uint8Array();

  constructor(dtype: ElementType) {
    this.#dtype = dtype;
    this.#width = Math.max(1, elementBits(dtype) / 8);
  }

  /** Valid until the chunk is used for something else: float32 elements are not copied. */
  next(chunk: Uint8Array): Float32Array {
    let bytes = chunk;
    if (this.#cut.length > 0) {
      bytes = new Uint8Array(this.#cut.length + chunk.length);
      bytes.set(this.#cut);
      bytes.set(chunk, this.#cut.length);
    }
    const whole = bytes.length - (bytes.length % this.#width);
    this.#cut = bytes.slice(whole);
    return toFloats(bytes.subarray(0, whole), this.#dtype);
  }
}

/** All elements as float32: what is exact for the types up to 16 bits and float32 itself. */
export function toFloats(bytes: Uint8Array, dtype: ElementType): Float32Array {
  switch (dtype) {
    case "float32":
      return wordsOf(bytes, Float32Array);
    case "bfloat16":
      return fromBfloat16(wordsOf(bytes, Uint16Array));
    case "float16":
      return fromHalf(wordsOf(bytes, Uint16Array));
    case "uint8":
      return Float32Array.from(bytes, (code) => code - 127.5);
    case "uint4":
      return Float32Array.from(toNumbers(bytes, dtype), (code) => code - 7.5);
    case "string":
      return new Float32Array();
    case "int8":
    case "uint16":
    case "int16":
    case "int32":
    case "int64":
    case "bool":
    case "float64":
    case "uint32":
    case "uint64":
    case "float8e4m3fn":
    case "float8e5m2":
    case "int4":
      return Float32Array.from(toNumbers(bytes, dtype));
  }
}

let halves: Float32Array | undefined;

function fromHalf(codes: Uint16Array): Float32Array {
  const table = (halves ??= Float32Array.from({ length: 0x10000 }, (_, code) => halfToFloat(code)));
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) values[i] = table[codes[i]!]!;
  return values;
}

function fromBfloat16(codes: Uint16Array): Float32Array {
  const bits = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) bits[i] = codes[i]! << 16;
  return new Float32Array(bits.buffer);
}

/** A view where the bytes are aligned, else a copy. */
export function wordsOf<T>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  const source = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new type(source.buffer, source.byteOffset, Math.floor(source.length / type.BYTES_PER_ELEMENT));
}
