import { ELEMENT_TYPE_CODES, ENTRY, EXTERNAL_LOCATION, TENSOR } from "./fields.ts";
import type { TensorInfo } from "./model.ts";
import { readTensor } from "./tensor-data.ts";
import { WireWriter } from "./wire-writer.ts";

/** Where a tensor lies beside the written file; `location` is relative to it. */
export interface ExternalPlacement {
  location: string;
  offset: number;
  length: number;
  /** As `TensorData`'s. */
  packed?: ReadonlyMap<string, string>;
}

/** TensorProto, with raw_data unless it is placed outside. */
export function tensorMessage(tensor: TensorInfo, placement: ExternalPlacement | null): WireWriter {
  const message = new WireWriter();
  message.ints(TENSOR.dims, tensor.dims);
  message.int(TENSOR.dataType, ELEMENT_TYPE_CODES[tensor.dtype]);
  if (tensor.dtype === "string") {
    for (const text of unpackStrings(readTensor(tensor))) message.bytes(TENSOR.stringData, text);
  }
  if (tensor.name !== "") message.string(TENSOR.name, tensor.name);
  if (tensor.dtype === "string") return message;
  if (!placement) {
    message.bytes(TENSOR.rawData, readTensor(tensor));
    return message;
  }
  const { location, offset, length, packed = [] } = placement;
  for (const [key, value] of [...Object.entries({ location, offset, length }), ...packed]) {
    const entry = new WireWriter();
    entry.string(ENTRY.key, key);
    entry.string(ENTRY.value, String(value));
    message.message(TENSOR.externalData, entry);
  }
  message.int(TENSOR.dataLocation, EXTERNAL_LOCATION);
  return message;
}

/** The elements of a string tensor's bytes (see `TensorData`), still UTF-8. */
function unpackStrings(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: Uint8Array[] = [];
  for (let position = 0; position < bytes.length;) {
    const length = view.getUint32(position, true);
    texts.push(bytes.subarray(position + 4, position + 4 + length));
    position += 4 + length;
  }
  return texts;
}
