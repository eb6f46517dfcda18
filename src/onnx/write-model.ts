import {
  ATTRIBUTE,
  ATTRIBUTE_TYPE,
  DIMENSION,
  ELEMENT_TYPE_CODES,
  FUNCTION,
  GRAPH,
  MODEL,
  NODE,
  OPSET,
  SHAPE,
  TENSOR_TYPE,
  TYPE,
  VALUE_INFO,
} from "./fields.ts";
import { checkLimit } from "./limits.ts";
import type { Attribute, GraphNode, OnnxFunction, OnnxGraph, OnnxModel, TensorInfo, ValueInfo } from "./model.ts";
import { type ExternalPlacement, tensorMessage } from "./write-tensor.ts";
import { WireWriter } from "./wire-writer.ts";

/** Says for every initializer where its bytes lie; null keeps them inside the file. */
export type PlaceTensor = (tensor: TensorInfo) => ExternalPlacement | null;

/**
 * ONNX bytes, a pure function of the model: fields in number order, attributes by name, operator sets by domain,
 * functions by key, everything else in its order. Inline tensors are read here. `model_too_large` beyond 2 GiB.
 */
export function writeModel(model: OnnxModel, placement: PlaceTensor = () => null): Uint8Array {
  const message = new WireWriter();
  message.int(MODEL.irVersion, model.irVersion);
  if (model.producer !== "") message.string(MODEL.producerName, model.producer);
  message.message(MODEL.graph, graphMessage(model.graph, placement));
  writeOpsets(message, MODEL.opsetImport, model.opsets);
  for (const [, definition] of byKey(model.functions)) {
    message.message(MODEL.functions, functionMessage(definition, placement));
  }
  checkLimit("modelFileBytes", message.length, "bytes of the written model");
  return message.finish();
}

function graphMessage(graph: OnnxGraph, placement: PlaceTensor): WireWriter {
  const message = new WireWriter();
  for (const node of graph.nodes) message.message(GRAPH.node, nodeMessage(node, placement));
  message.string(GRAPH.name, graph.name);
  for (const [name, tensor] of graph.initializers) {
    message.message(GRAPH.initializer, tensorMessage({ ...tensor, name }, placement(tensor)));
  }
  for (const input of graph.inputs) message.message(GRAPH.input, valueInfoMessage(input));
  for (const output of graph.outputs) message.message(GRAPH.output, valueInfoMessage(output));
  return message;
}

function nodeMessage(node: GraphNode, placement: PlaceTensor): WireWriter {
  const message = new WireWriter();
  const [opType, overload] = splitOverload(node.opType);
  message.strings(NODE.input, node.inputs);
  message.strings(NODE.output, node.outputs);
  if (node.name !== "") message.string(NODE.name, node.name);
  message.string(NODE.opType, opType);
  for (const [name, attribute] of byKey(node.attributes)) {
    message.message(NODE.attribute, attributeMessage(name, attribute, placement));
  }
  if (node.domain !== "") message.string(NODE.domain, node.domain);
  if (overload !== "") message.string(NODE.overload, overload);
  return message;
}

function attributeMessage(name: string, attribute: Attribute, placement: PlaceTensor): WireWriter {
  const message = new WireWriter();
  message.string(ATTRIBUTE.name, name);
  switch (attribute.kind) {
    case "float":
      message.float(ATTRIBUTE.float, attribute.value);
      break;
    case "int":
      message.int(ATTRIBUTE.int, attribute.value);
      break;
    case "string":
      message.string(ATTRIBUTE.string, attribute.value);
      break;
    case "tensor":
      message.message(ATTRIBUTE.tensor, tensorMessage(attribute.value, null));
      break;
    case "graph":
      message.message(ATTRIBUTE.graph, graphMessage(attribute.value, placement));
      break;
    case "floats":
      message.floats(ATTRIBUTE.floats, attribute.value);
      break;
    case "ints":
      message.ints(ATTRIBUTE.ints, attribute.value);
      break;
    case "strings":
      message.strings(ATTRIBUTE.strings, attribute.value);
      break;
    case "reference":
      message.int(ATTRIBUTE.type, ATTRIBUTE_TYPE[attribute.type]);
      message.string(ATTRIBUTE.refAttrName, attribute.value);
      return message;
  }
  message.int(ATTRIBUTE.type, ATTRIBUTE_TYPE[attribute.kind]);
  return message;
}

function functionMessage(definition: OnnxFunction, placement: PlaceTensor): WireWriter {
  const message = new WireWriter();
  const [name, overload] = splitOverload(definition.name);
  message.string(FUNCTION.name, name);
  message.strings(FUNCTION.input, definition.inputs);
  message.strings(FUNCTION.output, definition.outputs);
  message.strings(FUNCTION.attribute, definition.attributes);
  for (const node of definition.nodes) message.message(FUNCTION.node, nodeMessage(node, placement));
  writeOpsets(message, FUNCTION.opsetImport, definition.opsets);
  message.string(FUNCTION.domain, definition.domain);
  for (const [key, attribute] of byKey(definition.defaults)) {
    message.message(FUNCTION.attributeDefault, attributeMessage(key, attribute, placement));
  }
  if (overload !== "") message.string(FUNCTION.overload, overload);
  return message;
}

function valueInfoMessage(value: ValueInfo): WireWriter {
  const message = new WireWriter();
  message.string(VALUE_INFO.name, value.name);
  if (value.dtype === "unknown" && value.dims === null) return message;
  const tensorType = new WireWriter();
  if (value.dtype !== "unknown") tensorType.int(TENSOR_TYPE.elementType, ELEMENT_TYPE_CODES[value.dtype]);
  if (value.dims) tensorType.message(TENSOR_TYPE.shape, shapeMessage(value.dims));
  const type = new WireWriter();
  type.message(TYPE.tensorType, tensorType);
  message.message(VALUE_INFO.type, type);
  return message;
}

function shapeMessage(dims: (number | string | null)[]): WireWriter {
  const shape = new WireWriter();
  for (const dim of dims) {
    const dimension = new WireWriter();
    if (typeof dim === "number") dimension.int(DIMENSION.value, dim);
    else if (dim !== null) dimension.string(DIMENSION.parameter, dim);
    shape.message(SHAPE.dimension, dimension);
  }
  return shape;
}

function writeOpsets(message: WireWriter, field: number, opsets: Map<string, number>): void {
  for (const [domain, version] of byKey(opsets)) {
    const opset = new WireWriter();
    opset.string(OPSET.domain, domain);
    opset.int(OPSET.version, version);
    message.message(field, opset);
  }
}

/** The reader joins a function's name and overload with a colon, which no operator's own name holds. */
function splitOverload(name: string): [string, string] {
  const colon = name.indexOf(":");
  return colon < 0 ? [name, ""] : [name.slice(0, colon), name.slice(colon + 1)];
}

/** By code units, so that the order is the same in every locale. */
function byKey<Value>(entries: Map<string, Value>): [string, Value][] {
  return [...entries].toSorted(([a], [b]) => (a < b ? -1 : Number(a > b)));
}
