import type { ElementType } from "../onnx/model.ts";
import { halfToFloat, toNumbers } from "../onnx/numbers.ts";
import { elementBits } from "../onnx/tensor-data.ts";

/** Types whose elements are values on a line: what a cosine or a difference means something for. */
export function isFloat(dtype: ElementType): boolean {
  return dtype === "float32" || dtype === "float16" || dtype === "bfloat16" || dtype === "float64";
}

/** Few enough that decoded elements stay in the fastest cache until they are used. */
const PIECE_ELEMENTS = 8192;

/**
 * The elements of a tensor as float32, piece by piece as its bytes come; an element cut by a chunk's end comes with the
 * next. Unsigned codes are centred, since the midpoint they have in common would make any two tensors look alike.
 */
export class ElementStream {
  readonly #dtype: ElementType;
  readonly #width: number;
  readonly #floats = new Float32Array(PIECE_ELEMENTS);
  #cut = new Uint8Array();

  constructor(dtype: ElementType) {
    this.#dtype = dtype;
    this.#width = Math.max(1, elementBits(dtype) / 8);
  }

  /** A piece is valid until the next one and until the chunk is used for something else: float32 is not copied. */
  *pieces(chunk: Uint8Array): Generator<Float32Array> {
    let bytes = chunk;
    if (this.#cut.length > 0) {
      bytes = new Uint8Array(this.#cut.length + chunk.length);
      bytes.set(this.#cut);
      bytes.set(chunk, this.#cut.length);
    }
    const whole = bytes.length - (bytes.length % this.#width);
    this.#cut = bytes.slice(whole);
    const pieceBytes = PIECE_ELEMENTS * this.#width;
    for (let from = 0; from < whole; from += pieceBytes) {
      yield toFloats(bytes.subarray(from, Math.min(whole, from + pieceBytes)), this.#dtype, this.#floats);
    }
  }
}

/** All elements as float32, exact for the types up to 16 bits and float32 itself. `into`: memory for 16-bit floats, at least as many. */
export function toFloats(bytes: Uint8Array, dtype: ElementType, into?: Float32Array): Float32Array {
  switch (dtype) {
    case "float32":
      return wordsOf(bytes, Float32Array);
    case "bfloat16":
      return fromBfloat16(wordsOf(bytes, Uint16Array), into);
    case "float16":
      return fromHalf(wordsOf(bytes, Uint16Array), into);
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

/** Four at a time, as below: half the time, since the loop's own checks cost as much as an element (bench/similarity.ts). */
function fromHalf(codes: Uint16Array, into?: Float32Array): Float32Array {
  const table = (halves ??= Float32Array.from({ length: 0x10000 }, (_, code) => halfToFloat(code)));
  const values = into?.subarray(0, codes.length) ?? new Float32Array(codes.length);
  const fours = codes.length - (codes.length % 4);
  for (let i = 0; i < fours; i += 4) {
    values[i] = table[codes[i]!]!;
    values[i + 1] = table[codes[i + 1]!]!;
    values[i + 2] = table[codes[i + 2]!]!;
    values[i + 3] = table[codes[i + 3]!]!;
  }
  for (let i = fours; i < codes.length; i++) values[i] = table[codes[i]!]!;
  return values;
}

function fromBfloat16(codes: Uint16Array, into?: Float32Array): Float32Array {
  const values = into?.subarray(0, codes.length) ?? new Float32Array(codes.length);
  const bits = new Int32Array(values.buffer, values.byteOffset, codes.length);
  const fours = codes.length - (codes.length % 4);
  for (let i = 0; i < fours; i += 4) {
    bits[i] = codes[i]! << 16;
    bits[i + 1] = codes[i + 1]! << 16;
    bits[i + 2] = codes[i + 2]! << 16;
    bits[i + 3] = codes[i + 3]! << 16;
  }
  for (let i = fours; i < codes.length; i++) bits[i] = codes[i]! << 16;
  return values;
}

/** A view where the bytes are aligned, else a copy. */
export function wordsOf<T>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  const source = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new type(source.buffer, source.byteOffset, Math.floor(source.length / type.BYTES_PER_ELEMENT));
}
