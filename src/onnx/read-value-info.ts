import { DIMENSION, SHAPE, TENSOR_TYPE, TYPE, VALUE_INFO } from "./fields.ts";
import { checkLimit } from "./limits.ts";
import type { ValueInfo } from "./model.ts";
import { elementTypeOf } from "./read-tensor.ts";
import type { WireReader } from "./wire-reader.ts";

type Dimension = number | string | null;

/** ValueInfoProto; sequences, maps and optionals have dtype "unknown" and no dims. */
export function readValueInfo(wire: WireReader, end: number): ValueInfo {
  const value: ValueInfo = { name: "", dtype: "unknown", dims: null };
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === VALUE_INFO.name) value.name = wire.name("a value's name");
    else if (field === VALUE_INFO.type) readType(wire, wire.message("a value's type"), value);
    else wire.skip();
  }
  return value;
}

function readType(wire: WireReader, end: number, value: ValueInfo): void {
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === TYPE.tensorType) readTensorType(wire, wire.message("a tensor type"), value);
    else wire.skip();
  }
}

function readTensorType(wire: WireReader, end: number, value: ValueInfo): void {
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === TENSOR_TYPE.elementType) value.dtype = elementTypeOf(wire.int("an element type"));
    else if (field === TENSOR_TYPE.shape) value.dims = readShape(wire, wire.message("a shape"), value.name);
    else wire.skip();
  }
}

function readShape(wire: WireReader, end: number, name: string): Dimension[] {
  const dims: Dimension[] = [];
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field !== SHAPE.dimension) {
      wire.skip();
      continue;
    }
    dims.push(readDimension(wire, wire.message("a dimension")));
    checkLimit("rank", dims.length, `${wire.path}: rank of value ${name}`);
  }
  return dims;
}

/** Some exporters write "unknown" as −1. */
function readDimension(wire: WireReader, end: number): Dimension {
  let dimension: Dimension = null;
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === DIMENSION.value) {
      const value = wire.int("a dimension");
      dimension = value < 0 ? null : value;
    } else if (field === DIMENSION.parameter) dimension = wire.name("a dimension's name") || null;
    else wire.skip();
  }
  return dimension;
}
