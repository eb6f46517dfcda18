import { BlockllmError } from "../support/errors.ts";
import { LIMITS } from "./limits.ts";
import type { Attribute, GraphNode, OnnxFunction, OnnxGraph, OnnxModel } from "./model.ts";

/** One round of inlining: what is known while the nodes are rebuilt. */
interface Inlining {
  functions: Map<string, OnnxFunction>;
  keep: (domain: string, name: string) => boolean;
  opsets: Map<string, number>;
  /** Every value name of the result so far. */
  taken: Set<string>;
  calls: number;
  nodes: number;
}

/** How the names and attribute references of one function body read in its caller. */
interface Scope {
  values: Map<string, string>;
  attributes: Map<string, Attribute>;
  /** Begins the name of everything that the body adds. */
  prefix: string;
}

/**
 * Replaces calls of model-local functions by their bodies (https://onnx.ai/onnx/repo-docs/IR.html, Functions), also
 * inside sub-graphs and other functions. Where `keep` says so the call stays, as an operator the runtime knows by
 * itself. The result has no functions. `model_invalid` for a function that calls itself or is called wrongly,
 * `model_unsupported` where a body was written for another operator set version than the model.
 */
export function inlineFunctions(model: OnnxModel, keep: (domain: string, name: string) => boolean): OnnxModel {
  if (model.functions.size === 0) return model;
  const inlining: Inlining = {
    functions: model.functions,
    keep,
    opsets: new Map(model.opsets),
    taken: new Set(),
    calls: 0,
    nodes: 0,
  };
  collectNames(model.graph, inlining.taken);
  const graph = inlineGraph(inlining, model.graph, []);
  return { ...model, opsets: inlining.opsets, graph, functions: new Map() };
}

function inlineGraph(inlining: Inlining, graph: OnnxGraph, path: string[]): OnnxGraph {
  return { ...graph, nodes: inlineNodes(inlining, graph.nodes, path) };
}

/** `path` names the functions that the nodes came out of, outermost first. */
function inlineNodes(inlining: Inlining, nodes: GraphNode[], path: string[]): GraphNode[] {
  return nodes.flatMap((node) => {
    const definition = inlining.functions.get(`${node.domain}::${node.opType}`);
    if (!definition || inlining.keep(node.domain, node.opType)) {
      countNodes(inlining, 1);
      return [inlineSubgraphs(inlining, node, path)];
    }
    const key = `${definition.domain}::${definition.name}`;
    if (path.includes(key) || path.length >= LIMITS.callDepth) {
      throw new BlockllmError(
        "model_invalid",
        `functions call each other without end or deeper than ${LIMITS.callDepth}: ${[...path, key].join(" → ")}`,
      );
    }
    joinOpsets(inlining.opsets, definition, key);
    return inlineNodes(inlining, expandCall(inlining, node, definition), [...path, key]);
  });
}

function inlineSubgraphs(inlining: Inlining, node: GraphNode, path: string[]): GraphNode {
  if (![...node.attributes.values()].some(({ kind }) => kind === "graph")) return node;
  const attributes = mapValues(node.attributes, (attribute) =>
    attribute.kind === "graph" ? { kind: "graph", value: inlineGraph(inlining, attribute.value, path) } : attribute,
  );
  return { ...node, attributes };
}

/** The body with the caller's names in place of the formal ones. */
function expandCall(inlining: Inlining, call: GraphNode, definition: OnnxFunction): GraphNode[] {
  if (call.inputs.length > definition.inputs.length || call.outputs.length > definition.outputs.length) {
    throw new BlockllmError(
      "model_invalid",
      `node ${JSON.stringify(call.name)} gives ${call.inputs.length} inputs and takes ${call.outputs.length} outputs, ` +
        `function ${definition.name} has ${definition.inputs.length} and ${definition.outputs.length}`,
    );
  }
  countNodes(inlining, definition.nodes.length);
  const scope: Scope = {
    values: new Map([["", ""]]),
    attributes: new Map([...definition.defaults, ...call.attributes]),
    prefix: `${call.name || definition.name}#${inlining.calls++}/`,
  };
  definition.inputs.forEach((formal, index) => scope.values.set(formal, call.inputs[index] ?? ""));
  const passedOn: GraphNode[] = [];
  definition.outputs.forEach((formal, index) => {
    const actual = call.outputs[index] ?? "";
    if (actual === "") return;
    const source = scope.values.get(formal);
    if (source === undefined) scope.values.set(formal, actual);
    else passedOn.push(identity(source, actual));
  });
  return [...definition.nodes.map((node) => renameNode(inlining, node, scope)), ...passedOn];
}

/** An output that is an input, or the same value as an earlier output, needs a node of its own. */
function identity(source: string, target: string): GraphNode {
  const node = { name: `${target}/Identity`, opType: "Identity", domain: "" };
  return { ...node, inputs: [source], outputs: [target], attributes: new Map() };
}

function renameNode(inlining: Inlining, node: GraphNode, scope: Scope): GraphNode {
  const attributes = new Map<string, Attribute>();
  for (const [name, attribute] of node.attributes) {
    const resolved = resolveAttribute(inlining, attribute, scope);
    if (resolved) attributes.set(name, resolved);
  }
  return {
    ...node,
    name: node.name === "" ? "" : scope.prefix + node.name,
    inputs: node.inputs.map((value) => renameValue(inlining, value, scope)),
    outputs: node.outputs.map((value) => renameValue(inlining, value, scope)),
    attributes,
  };
}

/** A reference to an attribute that the caller left out, without a default, is as if it were not written. */
function resolveAttribute(inlining: Inlining, attribute: Attribute, scope: Scope): Attribute | undefined {
  if (attribute.kind === "graph") return { kind: "graph", value: renameGraph(inlining, attribute.value, scope) };
  if (attribute.kind !== "reference") return attribute;
  const value = scope.attributes.get(attribute.value);
  if (value === undefined || value.kind === "reference" || value.kind === attribute.type) return value;
  throw new BlockllmError(
    "model_invalid",
    `${scope.prefix}: attribute ${attribute.value} is ${value.kind}, the function's body takes ${attribute.type}`,
  );
}

/** ONNX forbids inner names that shadow outer ones, so one map of names serves all levels. */
function renameGraph(inlining: Inlining, graph: OnnxGraph, scope: Scope): OnnxGraph {
  const rename = (value: string) => renameValue(inlining, value, scope);
  return {
    name: graph.name,
    inputs: graph.inputs.map((input) => ({ ...input, name: rename(input.name) })),
    initializers: new Map(
      [...graph.initializers].map(([name, tensor]) => [rename(name), { ...tensor, name: rename(name) }]),
    ),
    nodes: graph.nodes.map((node) => renameNode(inlining, node, scope)),
    outputs: graph.outputs.map((output) => ({ ...output, name: rename(output.name) })),
  };
}

function renameValue(inlining: Inlining, value: string, scope: Scope): string {
  const known = scope.values.get(value);
  if (known !== undefined) return known;
  let fresh = scope.prefix + value;
  while (inlining.taken.has(fresh)) fresh += "'";
  inlining.taken.add(fresh);
  scope.values.set(value, fresh);
  return fresh;
}

function joinOpsets(opsets: Map<string, number>, definition: OnnxFunction, key: string): void {
  for (const [domain, version] of definition.opsets) {
    const known = opsets.get(domain) ?? version;
    if (known !== version) {
      throw new BlockllmError(
        "model_unsupported",
        `function ${key} is written for version ${version} of operator set "${domain}", the model for ${known}`,
        { hint: "inline it while exporting: onnx.inliner.inline_local_functions(model, convert_version=True)" },
      );
    }
    opsets.set(domain, version);
  }
}

/** Functions that call each other twice per level double the graph with every level. */
function countNodes(inlining: Inlining, more: number): void {
  inlining.nodes += more;
  if (inlining.nodes > LIMITS.nodes) {
    throw new BlockllmError("model_too_large", `its functions expand to more than ${LIMITS.nodes} nodes`);
  }
}

function collectNames(graph: OnnxGraph, names: Set<string>): void {
  for (const { name } of [...graph.inputs, ...graph.outputs]) names.add(name);
  for (const name of graph.initializers.keys()) names.add(name);
  for (const node of graph.nodes) {
    for (const name of [...node.inputs, ...node.outputs]) names.add(name);
    for (const attribute of node.attributes.values()) {
      if (attribute.kind === "graph") collectNames(attribute.value, names);
    }
  }
}

function mapValues(
  attributes: Map<string, Attribute>,
  change: (attribute: Attribute) => Attribute,
): Map<string, Attribute> {
  return new Map([...attributes].map(([name, attribute]) => [name, change(attribute)]));
}
