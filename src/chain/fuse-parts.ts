import type { Attribute, GraphNode, OnnxGraph, OnnxModel, TensorInfo, ValueInfo } from "../onnx/model.ts";

/** Masks of adapters are compared, weights inside a graph are not. */
const MOST_COMPARED_BYTES = 2 ** 14;

/**
 * Several part graphs as one: what one gives feeds the later ones that take it (`hidden_out` as `hidden`), every other
 * input is one input of the whole, and each port leaves as the last part gives it (so the residual comes out beside q, k
 * and v), or only those that `leaves` names. A weight that several parts name is one initializer; so are equal constants,
 * which lets the runtime compute once what parts compute from them alike. Values keep their names behind a prefix per
 * part: "2.norm".
 */
export function fuseParts(parts: readonly OnnxModel[], leaves: (port: string) => boolean = () => true): OnnxModel {
  const [first] = parts;
  if (!first) throw new Error("There are no parts to fuse");
  const fused: OnnxGraph = { name: "segment", nodes: [], initializers: new Map(), inputs: [], outputs: [] };
  const weights = new Map<string, string>();
  const names = parts.map((part, index) => partNames(part.graph, index));
  const outputs = lastOutputs(parts);
  const given = new Map<string, string>();

  parts.forEach(({ graph }, index) => {
    const rename = names[index]!;
    for (const input of graph.inputs) {
      const joined = given.get(input.name) ?? input.name;
      rename.set(input.name, joined);
      if (joined === input.name && !fused.inputs.some(({ name }) => name === joined)) fused.inputs.push(input);
    }
    for (const output of graph.outputs) {
      if (outputs.get(output.name)?.part !== index || !leaves(output.name)) continue;
      rename.set(output.name, output.name);
      fused.outputs.push(output);
    }
    for (const [name, tensor] of graph.initializers) addWeight(fused, { name, tensor, rename, weights });
    fused.nodes.push(...graph.nodes.map((node) => renameNode(node, rename)));
    for (const { name } of graph.outputs) given.set(name === "hidden_out" ? "hidden" : name, rename.get(name)!);
  });
  return {
    irVersion: first.irVersion,
    producer: first.producer,
    opsets: joinOpsets(parts),
    graph: fused,
    functions: joinFunctions(parts),
  };
}

/** Every value of a part under its prefix; ports are named afterwards. "" stays the omitted input. */
function partNames(graph: OnnxGraph, index: number): Map<string, string> {
  const names = new Map<string, string>();
  const prefix = (name: string): unknown => name !== "" && names.set(name, `${index}.${name}`);
  for (const name of graph.initializers.keys()) prefix(name);
  for (const node of graph.nodes) node.outputs.forEach(prefix);
  return names;
}

function lastOutputs(parts: readonly OnnxModel[]): Map<string, { part: number }> {
  return new Map(parts.flatMap(({ graph }, part) => graph.outputs.map(({ name }) => [name, { part }] as const)));
}

function addWeight(
  fused: OnnxGraph,
  {
    name,
    tensor,
    rename,
    weights,
  }: { name: string; tensor: TensorInfo; rename: Map<string, string>; weights: Map<string, string> },
): void {
  const identity = weightIdentity(tensor);
  const known = identity === null ? undefined : weights.get(identity);
  if (known !== undefined) {
    rename.set(name, known);
    return;
  }
  const fusedName = rename.get(name)!;
  if (identity !== null) weights.set(identity, fusedName);
  fused.initializers.set(fusedName, { ...tensor, name: fusedName });
}

/** Bytes of one file, or small ones inside the graph, read as one type and shape; null: nothing else is the same for sure. */
function weightIdentity({ dtype, dims, data }: TensorInfo): string | null {
  if (data.kind === "file") return [data.path, data.offset, data.length, dtype, ...dims].join(" ");
  if (data.kind !== "bytes" || data.bytes.length > MOST_COMPARED_BYTES) return null;
  return [Buffer.from(data.bytes).toString("base64"), dtype, ...dims].join(" ");
}

function renameNode(node: GraphNode, names: Map<string, string>): GraphNode {
  const rename = (name: string): string => names.get(name) ?? name;
  return {
    ...node,
    name: rename(node.outputs.find((name) => name !== "") ?? ""),
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
    attributes: new Map([...node.attributes].map(([key, attribute]) => [key, renameAttribute(attribute, names)])),
  };
}

/** A body may name values of the graph around it; its own names hide them. */
function renameAttribute(attribute: Attribute, names: Map<string, string>): Attribute {
  if (attribute.kind !== "graph") return attribute;
  const body = attribute.value;
  const outer = new Map(names);
  for (const name of bodyNames(body)) outer.delete(name);
  return {
    kind: "graph",
    value: {
      ...body,
      nodes: body.nodes.map((node) => renameNode(node, outer)),
      outputs: body.outputs.map((output) => renameValue(output, outer)),
    },
  };
}

function bodyNames(body: OnnxGraph): string[] {
  return [
    ...body.inputs.map(({ name }) => name),
    ...body.initializers.keys(),
    ...body.nodes.flatMap(({ outputs }) => outputs),
  ];
}

function renameValue(value: ValueInfo, names: Map<string, string>): ValueInfo {
  return { ...value, name: names.get(value.name) ?? value.name };
}

function joinOpsets(parts: readonly OnnxModel[]): Map<string, number> {
  const joined = new Map<string, number>();
  for (const { opsets } of parts) {
    for (const [domain, version] of opsets) {
      if ((joined.get(domain) ?? version) !== version) {
        throw new Error(`Parts of one segment want versions ${joined.get(domain)} and ${version} of "${domain}"`);
      }
      joined.set(domain, version);
    }
  }
  return joined;
}

function joinFunctions(parts: readonly OnnxModel[]): OnnxModel["functions"] {
  return new Map(parts.flatMap(({ functions }) => [...functions]));
}
