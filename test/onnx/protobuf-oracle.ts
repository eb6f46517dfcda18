import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type * as OnnxProto from "onnx-proto";
import { ELEMENT_TYPE_CODES } from "../../src/onnx/fields.ts";
import type { Attribute, GraphNode, OnnxGraph, OnnxModel, TensorInfo } from "../../src/onnx/model.ts";
import { readTensor } from "../../src/onnx/tensor-data.ts";

/** Somebody else's protobuf code for the same schema (protobufjs, generated from onnx.proto 1.10.2). */
export const { onnx } = createRequire(import.meta.url)("onnx-proto") as typeof OnnxProto;

type Proto<Name extends keyof typeof OnnxProto.onnx> = InstanceType<
  Extract<(typeof OnnxProto.onnx)[Name], abstract new (...all: never[]) => unknown>
>;

/** Where the external data of the model in hand lies. */
let externalFolder = "";

/** What both sides can say about a model, in one plain form. */
export function summarise(model: OnnxModel): unknown {
  return {
    irVersion: model.irVersion,
    producer: model.producer,
    opsets: Object.fromEntries(model.opsets),
    functions: [...model.functions.values()].map((one) => ({
      domain: one.domain,
      name: one.name,
      inputs: one.inputs,
      outputs: one.outputs,
      attributes: one.attributes,
      nodes: one.nodes.map(summariseNode),
    })),
    graph: summariseGraph(model.graph),
  };
}

export function summariseProto(bytes: Uint8Array, folder = ""): unknown {
  externalFolder = folder;
  const model = onnx.ModelProto.decode(bytes);
  return {
    irVersion: Number(model.irVersion),
    producer: model.producerName,
    opsets: Object.fromEntries(
      model.opsetImport.map((opset) => [domainOf(opset.domain), Number(opset.version)] as const),
    ),
    functions: model.functions.map((one) => ({
      domain: domainOf(one.domain),
      name: one.name,
      inputs: one.input,
      outputs: one.output,
      attributes: one.attribute,
      nodes: one.node?.map(summariseNodeProto),
    })),
    graph: summariseGraphProto(model.graph as Proto<"GraphProto">),
  };
}

function summariseGraph(graph: OnnxGraph): unknown {
  return {
    name: graph.name,
    nodes: graph.nodes.map(summariseNode),
    initializers: [...graph.initializers.values()].map(summariseTensor),
    inputs: graph.inputs.map(({ name, dims }) => ({ name, dims })),
    outputs: graph.outputs.map(({ name, dims }) => ({ name, dims })),
  };
}

function summariseGraphProto(graph: Proto<"GraphProto">): unknown {
  return {
    name: graph.name,
    nodes: graph.node.map(summariseNodeProto),
    initializers: graph.initializer.map(summariseTensorProto),
    inputs: graph.input.map(summariseValueProto),
    outputs: graph.output.map(summariseValueProto),
  };
}

function summariseNode(node: GraphNode): unknown {
  return {
    ...node,
    attributes: Object.fromEntries([...node.attributes].map(([name, value]) => [name, summariseAttribute(value)])),
  };
}

function summariseNodeProto(node: OnnxProto.onnx.INodeProto): unknown {
  return {
    name: node.name,
    opType: node.opType,
    domain: domainOf(node.domain),
    inputs: node.input,
    outputs: node.output,
    attributes: Object.fromEntries(
      (node.attribute ?? []).map((one) => [one.name, summariseAttributeProto(one as Proto<"AttributeProto">)]),
    ),
  };
}

function summariseAttribute(attribute: Attribute): unknown {
  if (attribute.kind === "reference") return { reference: attribute.value };
  if (attribute.kind === "tensor") return summariseTensor(attribute.value);
  if (attribute.kind === "graph") return summariseGraph(attribute.value);
  return attribute.value;
}

function summariseAttributeProto(attribute: Proto<"AttributeProto">): unknown {
  if (attribute.refAttrName) return { reference: attribute.refAttrName };
  const values = [
    undefined,
    attribute.f,
    integer(attribute.i),
    text(attribute.s),
    attribute.t && summariseTensorProto(attribute.t),
    attribute.g && summariseGraphProto(attribute.g as Proto<"GraphProto">),
    attribute.floats,
    attribute.ints.map(integer),
    attribute.strings.map(text),
  ];
  return values[attribute.type];
}

function summariseTensor(tensor: TensorInfo): unknown {
  const { name, dims, dtype } = tensor;
  return { name, dims, dtype: ELEMENT_TYPE_CODES[dtype], bytes: Buffer.from(readTensor(tensor)).toString("base64") };
}

function summariseTensorProto(tensor: OnnxProto.onnx.ITensorProto): unknown {
  return {
    name: tensor.name,
    dims: (tensor.dims ?? []).map(integer),
    dtype: tensor.dataType,
    bytes: tensorBytesOfProto(tensor).toString("base64"),
  };
}

function tensorBytesOfProto(tensor: OnnxProto.onnx.ITensorProto): Buffer {
  if (tensor.externalData?.length) {
    const entry = Object.fromEntries(tensor.externalData.map(({ key, value }) => [key ?? "", value ?? ""]));
    const start = Number(entry["offset"] ?? 0);
    return readFileSync(join(externalFolder, entry["location"]!)).subarray(start, start + Number(entry["length"]));
  }
  if (tensor.floatData?.length) return Buffer.from(Float32Array.from(tensor.floatData).buffer);
  if (tensor.int64Data?.length) {
    return Buffer.from(BigInt64Array.from(tensor.int64Data, (value) => BigInt(String(value))).buffer);
  }
  if (tensor.int32Data?.length) {
    if (tensor.dataType === ELEMENT_TYPE_CODES.int32) return Buffer.from(Int32Array.from(tensor.int32Data).buffer);
    return Buffer.from(Uint8Array.from(tensor.int32Data));
  }
  return Buffer.from(tensor.rawData ?? []);
}

function summariseValueProto(value: OnnxProto.onnx.IValueInfoProto): unknown {
  const shape = value.type?.tensorType?.shape;
  const dims = shape?.dim?.map((dim) => (dim.dimParam ? dim.dimParam : dim.dimValue ? integer(dim.dimValue) : null));
  return { name: value.name, dims: dims ?? (shape ? [] : null) };
}

function domainOf(domain: string | null | undefined): string {
  return domain === "ai.onnx" ? "" : (domain ?? "");
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

/** INT64_MAX and its neighbours mean "to the end"; the reader gives the largest exact number for them. */
function integer(value: unknown): number {
  const exact = BigInt(String(value));
  if (exact > 2n ** 62n) return Number.MAX_SAFE_INTEGER;
  return exact < -(2n ** 62n) ? Number.MIN_SAFE_INTEGER : Number(exact);
}
