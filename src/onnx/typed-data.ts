import { ByteWriter } from "../support/bytes.ts";
import { TENSOR } from "./fields.ts";
import type { ElementType } from "./model.ts";
import type { ModelScan } from "./model-scan.ts";
import { elementBits, elementCount, tensorBytes } from "./tensor-data.ts";
import { FIXED32, FIXED64, type WireReader } from "./wire-reader.ts";

/** Bytes per stored element, and the element types that may be stored so (TensorProto's comments in onnx.proto). */
const STORAGE: Record<number, { width: number; dtypes: readonly ElementType[] }> = {
  [TENSOR.floatData]: { width: 4, dtypes: ["float32"] },
  [TENSOR.doubleData]: { width: 8, dtypes: ["float64"] },
  [TENSOR.int64Data]: { width: 8, dtypes: ["int64"] },
  [TENSOR.uint64Data]: { width: 8, dtypes: ["uint64", "uint32"] },
  [TENSOR.int32Data]: {
    width: 4,
    dtypes: [
      ...(["int32", "int16", "int8", "uint16", "uint8", "bool", "float16", "bfloat16"] as const),
      ...(["float8e4m3fn", "float8e5m2", "uint4", "int4"] as const),
    ],
  },
  [TENSOR.stringData]: { width: 0, dtypes: ["string"] },
};

/** The float_data, int32_data, … of one tensor, little-endian in the field's own width while it is collected. */
export class TypedData {
  readonly field: number;
  readonly bytes = new ByteWriter();
  /** Strings only; numbers are counted by their bytes. */
  strings = 0;

  constructor(field: number) {
    this.field = field;
  }

  read(wire: WireReader, field: number): void {
    if (field !== this.field) throw wire.invalid("a tensor has two kinds of typed data", wire.position);
    if (field === TENSOR.floatData) this.bytes.append(wire.fixed("float_data", FIXED32));
    else if (field === TENSOR.doubleData) this.bytes.append(wire.fixed("double_data", FIXED64));
    else if (field === TENSOR.stringData) {
      const text = wire.bytes("string_data");
      this.bytes.uint32(text.length);
      this.bytes.append(text);
      this.strings += 1;
    } else if (field === TENSOR.int32Data) wire.varints("int32_data", () => this.bytes.uint32(wire.low));
    else {
      wire.varints("64-bit data", () => {
        this.bytes.uint32(wire.low);
        this.bytes.uint32(wire.high);
      });
    }
  }
}

interface Expected {
  dtype: ElementType;
  dims: number[];
  label: string;
  /** Where the tensor begins, for the message. */
  start: number;
}

/** The tensor's own bytes: little-endian, row-major, as raw_data would hold them. */
export function decodeTyped(scan: ModelScan, typed: TypedData, { dtype, dims, label, start }: Expected): Uint8Array {
  const { width, dtypes } = STORAGE[typed.field]!;
  if (!dtypes.includes(dtype)) {
    throw scan.wire.invalid(`tensor ${label}: typed data field ${typed.field} cannot hold ${dtype}`, start);
  }
  const stored = typed.bytes.finish();
  if (dtype === "string") {
    const needed = elementCount(dims);
    if (typed.strings === needed) return stored;
    throw scan.wire.invalid(
      `tensor ${label}: ${typed.strings} strings, dims [${dims.join(", ")}] need ${needed}`,
      start,
    );
  }
  // Two 4-bit elements share one int32.
  const kept = Math.max(1, elementBits(dtype) / 8);
  const needed = tensorBytes(dtype, dims);
  if (stored.length * kept !== needed * width) {
    const found = stored.length / width;
    throw scan.wire.invalid(
      `tensor ${label}: ${found} stored values, dims [${dims.join(", ")}] × ${dtype} need ${needed / kept}`,
      start,
    );
  }
  return kept === width ? stored : narrow(stored, width, kept);
}

/** Keeps the low `kept` bytes of every `width`. */
function narrow(stored: Uint8Array, width: number, kept: number): Uint8Array {
  const bytes = new Uint8Array((stored.length / width) * kept);
  for (let index = 0; index < bytes.length; index++) {
    bytes[index] = stored[Math.floor(index / kept) * width + (index % kept)]!;
  }
  return bytes;
}
