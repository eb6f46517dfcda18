import { ATTRIBUTE, GRAPH, NODE } from "./fields.ts";
import { BlockllmError } from "../support/errors.ts";
import { checkLimit } from "./limits.ts";
import type { Attribute, GraphNode, OnnxGraph } from "./model.ts";
import type { ModelScan } from "./model-scan.ts";
import { AttributeFields } from "./attribute-fields.ts";
import { readTensorMessage } from "./read-tensor.ts";
import { readValueInfo } from "./read-value-info.ts";

/** GraphProto. value_info, annotations and metadata are passed over: nothing here depends on them. */
export function readGraph(scan: ModelScan, end: number): OnnxGraph {
  const { wire } = scan;
  const graph: OnnxGraph = { name: "", nodes: [], initializers: new Map(), inputs: [], outputs: [] };
  scan.graphDepth += 1;
  checkLimit("graphDepth", scan.graphDepth, `${wire.path}: graphs inside graphs at byte ${wire.position}`);
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    switch (field) {
      case GRAPH.node:
        graph.nodes.push(readNode(scan, wire.message("a node")));
        break;
      case GRAPH.name:
        graph.name = wire.name("the graph's name");
        break;
      case GRAPH.initializer:
        readInitializer(scan, wire.message("an initializer"), graph);
        break;
      case GRAPH.input:
        graph.inputs.push(readValueInfo(wire, wire.message("a graph input")));
        break;
      case GRAPH.output:
        graph.outputs.push(readValueInfo(wire, wire.message("a graph output")));
        break;
      case GRAPH.sparseInitializer:
        throw new BlockllmError("model_unsupported", `${wire.path}: graph ${graph.name} has a sparse initializer`);
      default:
        wire.skip();
    }
  }
  scan.graphDepth -= 1;
  return graph;
}

/** NodeProto. A function overload becomes part of the operator's name, here and in `readFunction`. */
export function readNode(scan: ModelScan, end: number): GraphNode {
  const { wire } = scan;
  const start = wire.position;
  const node: GraphNode = { name: "", opType: "", domain: "", inputs: [], outputs: [], attributes: new Map() };
  let overload = "";
  scan.nodes += 1;
  checkLimit("nodes", scan.nodes, `${wire.path}: nodes`);
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    switch (field) {
      case NODE.input:
        node.inputs.push(wire.name("a node's input"));
        break;
      case NODE.output:
        node.outputs.push(wire.name("a node's output"));
        break;
      case NODE.name:
        node.name = wire.name("a node's name");
        break;
      case NODE.opType:
        node.opType = wire.name("a node's operator");
        break;
      case NODE.domain:
        node.domain = normaliseDomain(wire.name("a node's domain"));
        break;
      case NODE.overload:
        overload = wire.name("a node's overload");
        break;
      case NODE.attribute: {
        const attributeStart = wire.position;
        const [name, attribute] = readAttribute(scan, wire.message("an attribute"), node);
        if (node.attributes.has(name)) throw wire.invalid(`attribute ${name} is there twice`, attributeStart);
        node.attributes.set(name, attribute);
        break;
      }
      default:
        wire.skip();
    }
  }
  if (node.opType === "") throw wire.invalid(`node ${JSON.stringify(node.name)} has no operator`, start);
  node.opType = withOverload(node.opType, overload);
  return node;
}

/** AttributeProto → its name and value. `node` is only for messages; it may still be half read. */
export function readAttribute(scan: ModelScan, end: number, node: { name: string }): [string, Attribute] {
  const { wire } = scan;
  const start = wire.position;
  const fields = new AttributeFields();
  for (let field = wire.next(end); field !== 0; field = wire.next(end)) {
    if (field === ATTRIBUTE.tensor) {
      fields.tensor = readTensorMessage(scan, wire.message("a tensor attribute"), node.name || "in an attribute");
    } else if (field === ATTRIBUTE.graph) fields.graph = readGraph(scan, wire.message("a graph attribute"));
    else fields.read(wire, field);
  }
  if (fields.name === "") throw wire.invalid("an attribute has no name", start);
  const attribute = fields.attribute();
  if (attribute) return [fields.name, attribute];
  const what = `attribute ${fields.name} of node ${JSON.stringify(node.name)}`;
  if (fields.type === 0) throw wire.invalid(`${what} has no value`, start);
  if (fields.isSimpleType()) throw wire.invalid(`${what} has type ${fields.type} but no such value`, start);
  throw new BlockllmError("model_unsupported", `${wire.path}: ${what} has type ${fields.type}`);
}

/** "ai.onnx" and "" name the same domain. */
export function normaliseDomain(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

export function withOverload(name: string, overload: string): string {
  return overload === "" ? name : `${name}:${overload}`;
}

function readInitializer(scan: ModelScan, end: number, graph: OnnxGraph): void {
  const { wire } = scan;
  const start = wire.position;
  scan.initializers += 1;
  checkLimit("initializers", scan.initializers, `${wire.path}: initializers`);
  const tensor = readTensorMessage(scan, end, "of the graph");
  if (tensor.name === "") throw wire.invalid("an initializer has no name", start);
  if (graph.initializers.has(tensor.name)) throw wire.invalid(`initializer ${tensor.name} is there twice`, start);
  graph.initializers.set(tensor.name, tensor);
}
