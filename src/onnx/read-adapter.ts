import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";

import { BlockllmError } from "../support/errors.ts";
import { LIMITS } from "./limits.ts";
import type { OnnxModel, TensorInfo } from "./model.ts";
import { elementTypeOf } from "./read-tensor.ts";
import { tensorBytes } from "./tensor-data.ts";

/**
 * The tensors of an `.onnx_adapter` file (ONNX Runtime's LoRA format: a FlatBuffer with identifier "TORT", schema
 * onnxruntime/lora/adapter_format/adapter_schema.fbs). Their bytes stay in the file. Throws
 * `model_not_found` where there is no file, `model_invalid` for anything else, and `model_too_large` beyond protobuf's
 * size, which graphs with these inputs have too.
 */
export function readAdapter(path: string): TensorInfo[] {
  const bytes = readWhole(path);
  try {
    if (bytes.toString("latin1", 4, 8) !== IDENTIFIER) throw new RangeError("it does not begin as an adapter does");
    const buffer = new FlatBuffer(bytes);
    const parameters = buffer.vector(buffer.root(), ADAPTER.parameters);
    return parameters.map((table) => parameterAt(buffer, table, path));
  } catch (cause) {
    // DataView refuses every offset outside the file, however the file came to name it.
    if (!(cause instanceof RangeError)) throw cause;
    throw new BlockllmError("model_invalid", `${path} is not an ONNX Runtime adapter: ${cause.message}`, {
      hint: "export it again, e.g. with olive generate-adapter",
      cause,
    });
  }
}

/** Feeds adapter tensors to the graph inputs of their names, for good: they become initializers. */
export function bindAdapter(model: OnnxModel, tensors: readonly TensorInfo[], path: string): OnnxModel {
  const inputs = new Set(model.graph.inputs.map(({ name }) => name));
  const unknown = tensors.find(({ name }) => !inputs.has(name) && !model.graph.initializers.has(name));
  if (unknown !== undefined) {
    throw new BlockllmError("model_invalid", `${path} has a tensor ${unknown.name}, and the graph has no such input`, {
      hint: "give the adapter that belongs to this model",
    });
  }
  const initializers = new Map(model.graph.initializers);
  for (const tensor of tensors) initializers.set(tensor.name, tensor);
  return { ...model, graph: { ...model.graph, initializers } };
}

const IDENTIFIER = "TORT";
/** vtable slots: 4 + 2 × field number. */
const ADAPTER = { parameters: 10 } as const;
const PARAMETER = { name: 4, dims: 6, dataType: 8, rawData: 10 } as const;

function parameterAt(buffer: FlatBuffer, table: number, path: string): TensorInfo {
  const name = buffer.text(table, PARAMETER.name);
  const dims = buffer.longs(table, PARAMETER.dims);
  const dtype = elementTypeOf(buffer.int(table, PARAMETER.dataType));
  const { start, length } = buffer.bytesAt(table, PARAMETER.rawData);
  if (dtype === "unknown" || dims.some((dim) => dim < 0 || dim > LIMITS.dimension))
    throw new RangeError(`${name} has an unknown type or size`);
  if (length !== tensorBytes(dtype, dims))
    throw new RangeError(`${name} has ${length} bytes for dims [${dims.join(", ")}] of ${dtype}`);
  return { name, dtype, dims, data: { kind: "file", path, offset: start, length } };
}

function readWhole(path: string): Buffer {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new BlockllmError("model_not_found", `there is no adapter file ${path}`, {
      hint: "give the path of an .onnx_adapter file",
    });
  }
  const descriptor = openSync(path, "r");
  try {
    const { size } = fstatSync(descriptor);
    if (size > LIMITS.modelFileBytes)
      throw new BlockllmError("model_too_large", `${path}: ${size} bytes are over the limit ${LIMITS.modelFileBytes}`);
    const bytes = Buffer.alloc(size);
    readSync(descriptor, bytes, 0, size, 0);
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}

/** What of FlatBuffers the adapter format uses: tables with vtables, vectors, strings, scalars, little-endian. */
class FlatBuffer {
  readonly #bytes: Buffer;
  readonly #view: DataView;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  root(): number {
    return this.#view.getUint32(0, true);
  }

  /** Positions of the tables of a vector field. */
  vector(table: number, slot: number): number[] {
    const { start, length } = this.#vectorAt(table, slot, 4);
    return Array.from({ length }, (_, i) => start + 4 * i + this.#view.getUint32(start + 4 * i, true));
  }

  longs(table: number, slot: number): number[] {
    const { start, length } = this.#vectorAt(table, slot, 8);
    return Array.from({ length }, (_, i) => Number(this.#view.getBigInt64(start + 8 * i, true)));
  }

  text(table: number, slot: number): string {
    const { start, length } = this.#vectorAt(table, slot, 1);
    return this.#bytes.toString("utf8", start, start + length);
  }

  bytesAt(table: number, slot: number): { start: number; length: number } {
    return this.#vectorAt(table, slot, 1);
  }

  int(table: number, slot: number): number {
    const field = this.#field(table, slot);
    return field === null ? 0 : this.#view.getInt32(field, true);
  }

  #vectorAt(table: number, slot: number, elementBytes: number): { start: number; length: number } {
    const field = this.#field(table, slot);
    if (field === null) return { start: 0, length: 0 };
    const vector = field + this.#view.getUint32(field, true);
    const length = this.#view.getUint32(vector, true);
    if (vector + 4 + length * elementBytes > this.#bytes.length)
      throw new RangeError(`a vector of ${length} runs over the end`);
    return { start: vector + 4, length };
  }

  /** Where a table's field lies; null: not set. */
  #field(table: number, slot: number): number | null {
    const vtable = table - this.#view.getInt32(table, true);
    if (slot >= this.#view.getUint16(vtable, true)) return null;
    const offset = this.#view.getUint16(vtable + slot, true);
    return offset === 0 ? null : table + offset;
  }
}
