import { BlockllmError } from "../support/errors.ts";
import type { ExternalEntries } from "./external-data.ts";
import { ELEMENT_TYPE_CODES, ENTRY, EXTERNAL_LOCATION, TENSOR } from "./fields.ts";
import { checkLimit } from "./limits.ts";
import type { ElementType, TensorData, TensorInfo } from "./model.ts";
import type { ModelScan } from "./model-scan.ts";
import { tensorBytes } from "./tensor-data.ts";
import { decodeTyped, TypedData } from "./typed-data.ts";

/** Larger raw_data stays in the file. */
const INLINE_BYTES = 1024;

const ELEMENT_TYPES = new Map<number, ElementType>();
for (const [name, code] of Object.entries(ELEMENT_TYPE_CODES)) ELEMENT_TYPES.set(code, name as ElementType);

/** What a TensorProto said before its parts are held against each other. */
interface TensorFields {
  name: string;
  dims: number[];
  typeCode: number;
  raw: { offset: number; length: number } | null;
  rawBytes: Uint8Array | null;
  typed: TypedData | null;
  external: ExternalEntries;
  isExternal: boolean;
}

/** TensorProto; raw_data beyond 1 KiB is noted by its place and not read. */
export function readTensorMessage(scan: ModelScan, end: number, owner: string): TensorInfo {
  const start = scan.wire.position;
  const fields = readFields(scan, end, owner);
  const label = fields.name || owner;
  const dtype = elementTypeOf(fields.typeCode);
  if (dtype === "unknown") {
    throw new BlockllmError(
      "model_unsupported",
      `tensor ${label}: element type ${fields.typeCode} is not one of ${[...ELEMENT_TYPES.values()].join(", ")}`,
    );
  }
  const tensor = { name: fields.name, dtype, dims: fields.dims };
  return { ...tensor, data: placeData(scan, { fields, dtype, label, start }) };
}

/** The name of a TensorProto.DataType, "unknown" where this project has none. */
export function elementTypeOf(code: number): ElementType | "unknown" {
  return ELEMENT_TYPES.get(code) ?? "unknown";
}

function readFields(scan: ModelScan, end: number, owner: string): TensorFields {
  const { wire } = scan;
  const fields: TensorFields = {
    name: "",
    dims: [],
    typeCode: 0,
    raw: null,
    rawBytes: null,
    typed: null,
    external: new Map(),
    isExternal: false,
  };
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    switch (field) {
      case TENSOR.name:
        fields.name = wire.name("a tensor's name");
        break;
      case TENSOR.dims:
        wire.ints("dims", (dim) => {
          fields.dims.push(dim);
          checkLimit("rank", fields.dims.length, `tensor ${fields.name || owner}: rank`);
        });
        break;
      case TENSOR.dataType:
        fields.typeCode = wire.int("data_type");
        break;
      case TENSOR.rawData:
        readRaw(scan, fields);
        break;
      case TENSOR.floatData:
      case TENSOR.doubleData:
      case TENSOR.int32Data:
      case TENSOR.int64Data:
      case TENSOR.uint64Data:
      case TENSOR.stringData:
        fields.typed ??= new TypedData(field);
        fields.typed.read(wire, field);
        break;
      case TENSOR.externalData:
        readEntry(scan, wire.message("external_data"), fields.external);
        break;
      case TENSOR.dataLocation:
        fields.isExternal = wire.int("data_location") === EXTERNAL_LOCATION;
        break;
      case TENSOR.segment:
        throw new BlockllmError("model_unsupported", `tensor ${fields.name || owner}: it is stored in segments`);
      default:
        wire.skip();
    }
  }
  return fields;
}

function readRaw(scan: ModelScan, fields: TensorFields): void {
  const { wire } = scan;
  const before = wire.position;
  fields.raw = wire.place("raw_data");
  fields.rawBytes = null;
  if (fields.raw.length > INLINE_BYTES) return;
  wire.position = before;
  fields.rawBytes = wire.bytes("raw_data");
}

function readEntry(scan: ModelScan, end: number, entries: ExternalEntries): void {
  const { wire } = scan;
  let key = "";
  let value = "";
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === ENTRY.key) key = wire.name("an external_data key");
    else if (field === ENTRY.value) value = wire.name("an external_data value");
    else wire.skip();
  }
  entries.set(key, value);
}

interface Placement {
  fields: TensorFields;
  dtype: ElementType;
  label: string;
  start: number;
}

/** Holds the stored bytes against dims × type. */
function placeData(scan: ModelScan, { fields, dtype, label, start }: Placement): TensorData {
  const { raw, rawBytes, typed, dims } = fields;
  if (raw && typed) throw scan.wire.invalid(`tensor ${label} has raw_data and typed data`, start);
  if (dtype === "string" && (raw || fields.isExternal)) {
    throw scan.wire.invalid(`tensor ${label} has strings outside string_data`, start);
  }
  if (typed) return { kind: "bytes", bytes: decodeTyped(scan, typed, { dtype, dims, label, start }) };
  const needed = dtype === "string" ? 0 : tensorBytes(dtype, dims);
  if (fields.isExternal) return scan.external.locate(label, fields.external, needed);
  const found = raw?.length ?? 0;
  if (found !== needed) {
    throw scan.wire.invalid(
      `tensor ${label}: ${found} bytes of data, dims [${dims.join(", ")}] × ${dtype} need ${needed}`,
      start,
    );
  }
  if (!raw || rawBytes) return { kind: "bytes", bytes: rawBytes ?? new Uint8Array(0) };
  return { kind: "file", path: scan.wire.path, ...raw };
}
