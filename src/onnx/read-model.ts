import { resolve } from "node:path";
import { ExternalData } from "./external-data.ts";
import { FUNCTION, MODEL, OPSET } from "./fields.ts";
import { checkLimit } from "./limits.ts";
import type { OnnxFunction, OnnxGraph, OnnxModel } from "./model.ts";
import type { ModelScan } from "./model-scan.ts";
import { normaliseDomain, readAttribute, readGraph, readNode, withOverload } from "./read-graph.ts";
import { WireReader } from "./wire-reader.ts";

/**
 * Reads an .onnx file (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) without its weights: tensors beyond
 * 1 KiB are noted as (file, offset, length). External data is located and measured, not read. Throws
 * `model_not_found`, `model_invalid` (naming what and the byte), `model_too_large`, `model_unsupported` and
 * `external_data_missing|short|escapes`.
 */
export async function readModel(path: string): Promise<OnnxModel> {
  return scanModel(path, new ExternalData(path));
}

/** As `readModel`, for a graph whose external data may lie elsewhere: it is named whether or not it is there. */
export async function readGraphAlone(path: string): Promise<OnnxModel> {
  return scanModel(path, new ExternalData(path, { mayMiss: true }));
}

function scanModel(path: string, external: ExternalData): OnnxModel {
  const wire = new WireReader(resolve(path));
  try {
    return readModelMessage({ wire, external, graphDepth: 0, nodes: 0, initializers: 0 });
  } finally {
    wire.close();
  }
}

function readModelMessage(scan: ModelScan): OnnxModel {
  const { wire } = scan;
  const opsets = new Map<string, number>();
  const functions = new Map<string, OnnxFunction>();
  let graph: OnnxGraph | undefined;
  let irVersion = 0;
  let producer = "";
  for (let field = wire.next(wire.size); field !== 0; field = wire.next(wire.size)) {
    switch (field) {
      case MODEL.irVersion:
        irVersion = wire.int("ir_version");
        break;
      case MODEL.producerName:
        producer = wire.name("producer_name");
        break;
      case MODEL.graph:
        if (graph) throw wire.invalid("a second graph", wire.position);
        graph = readGraph(scan, wire.message("the graph"));
        break;
      case MODEL.opsetImport:
        readOpset(wire, wire.message("an opset import"), opsets);
        break;
      case MODEL.functions:
        readFunction(scan, wire.message("a function"), functions);
        break;
      default:
        wire.skip();
    }
  }
  if (!graph) throw wire.invalid("it holds no graph", wire.size);
  if (opsets.size === 0) throw wire.invalid("it imports no operator set", wire.size);
  return { irVersion, producer, opsets, graph, functions };
}

function readOpset(wire: WireReader, end: number, opsets: Map<string, number>): void {
  const start = wire.position;
  let domain = "";
  let version = 0;
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === OPSET.domain) domain = normaliseDomain(wire.name("an opset's domain"));
    else if (field === OPSET.version) version = wire.int("an opset's version");
    else wire.skip();
  }
  const known = opsets.get(domain) ?? version;
  if (known !== version) throw wire.invalid(`opset "${domain}" in versions ${known} and ${version}`, start);
  opsets.set(domain, version);
}

/** FunctionProto */
function readFunction(scan: ModelScan, end: number, functions: Map<string, OnnxFunction>): void {
  const { wire } = scan;
  const start = wire.position;
  const read: OnnxFunction = {
    domain: "",
    name: "",
    inputs: [],
    outputs: [],
    attributes: [],
    defaults: new Map(),
    nodes: [],
    opsets: new Map(),
  };
  let overload = "";
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    switch (field) {
      case FUNCTION.name:
        read.name = wire.name("a function's name");
        break;
      case FUNCTION.domain:
        read.domain = normaliseDomain(wire.name("a function's domain"));
        break;
      case FUNCTION.overload:
        overload = wire.name("a function's overload");
        break;
      case FUNCTION.input:
        read.inputs.push(wire.name("a function's input"));
        break;
      case FUNCTION.output:
        read.outputs.push(wire.name("a function's output"));
        break;
      case FUNCTION.attribute:
        read.attributes.push(wire.name("a function's attribute"));
        break;
      case FUNCTION.attributeDefault: {
        const [name, attribute] = readAttribute(scan, wire.message("an attribute's default"), read);
        read.defaults.set(name, attribute);
        break;
      }
      case FUNCTION.node:
        read.nodes.push(readNode(scan, wire.message("a function's node")));
        break;
      case FUNCTION.opsetImport:
        readOpset(wire, wire.message("an opset import"), read.opsets);
        break;
      default:
        wire.skip();
    }
  }
  if (read.name === "") throw wire.invalid("a function has no name", start);
  read.name = withOverload(read.name, overload);
  const key = `${read.domain}::${read.name}`;
  if (functions.has(key)) throw wire.invalid(`function ${key} is there twice`, start);
  functions.set(key, read);
  checkLimit("functions", functions.size, `${wire.path}: functions`);
}
