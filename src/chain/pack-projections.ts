import type { GraphNode, OnnxModel, TensorInfo } from "../onnx/model.ts";
import { readTensor, storedBytes } from "../onnx/tensor-data.ts";

/** A serialised graph holds at most 2 GiB; what is packed lies inside it. */
const MOST_PACKED_BYTES = 1.5 * 2 ** 30;

/**
 * Projections of the same rows as one: q, k and v, gate and up, the factors of adapters. A single row then wakes the threads
 * once instead of three times; each column is summed as before, so the bits stay. The packed weights are copies in the graph.
 */
export function packProjections(model: OnnxModel): OnnxModel {
  const { graph } = model;
  const groups = projectionsByInput(graph.nodes, graph.initializers);
  if (groups.length === 0 || bytesOf(groups, graph.initializers) > MOST_PACKED_BYTES) return model;
  const initializers = new Map(graph.initializers);
  const packed = new Map<GraphNode, GraphNode[]>();
  for (const group of groups) {
    const [first, ...others] = group as [GraphNode, ...GraphNode[]];
    packed.set(first, packGroup(group, initializers));
    for (const other of others) packed.set(other, []);
  }
  const nodes = graph.nodes.flatMap((node) => packed.get(node) ?? [node]);
  return { ...model, graph: { ...graph, nodes, initializers } };
}

function projectionsByInput(nodes: GraphNode[], initializers: Map<string, TensorInfo>): GraphNode[][] {
  const groups = new Map<string, GraphNode[]>();
  for (const node of nodes) {
    const kind = projectionKind(node, initializers);
    if (kind === null || usedElsewhere(node, nodes)) continue;
    const key = JSON.stringify([node.inputs[0], kind]);
    groups.set(key, [...(groups.get(key) ?? []), node]);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

/** What projections must have in common to be packed; null: the node is none that can be. */
function projectionKind({ opType, inputs, attributes }: GraphNode, initializers: Map<string, TensorInfo>) {
  const weights = inputs.slice(1).map((name) => initializers.get(name));
  const [weight] = weights;
  if (weight === undefined || weights.includes(undefined)) return null;
  if (opType === "MatMul") return weight.dtype === "float32" && weight.dims.length === 2 ? "MatMul" : null;
  if (opType !== "MatMulNBits" || weights.length > 3) return null;
  const common = [...attributes].filter(([name]) => name !== "N");
  return JSON.stringify([common, weights.map((each) => [each!.dtype, each!.dims.length])]);
}

/** A tied weight stays where its other user finds it. */
function usedElsewhere(projection: GraphNode, nodes: GraphNode[]): boolean {
  return nodes.some(
    (node) => node !== projection && projection.inputs.slice(1).some((name) => node.inputs.includes(name)),
  );
}

function bytesOf(groups: GraphNode[][], initializers: Map<string, TensorInfo>): number {
  const weights = groups.flat().flatMap((node) => node.inputs.slice(1).map((name) => initializers.get(name)!));
  return weights.reduce((sum, weight) => sum + storedBytes(weight), 0);
}

/** Replaces the weights of a group by packed ones; gives the projection and the split into what the group gave. */
function packGroup(group: GraphNode[], initializers: Map<string, TensorInfo>): GraphNode[] {
  const [first] = group as [GraphNode];
  const name = `${first.outputs[0]}.packed`;
  const widths = group.map((node) => widthOf(node, initializers));
  const weights = first.inputs.slice(1).map((_, at) => {
    const own = group.map((node) => initializers.get(node.inputs[at + 1]!)!);
    const packed = first.opType === "MatMul" ? besideEachOther(own) : underEachOther(own);
    initializers.set(`${name}.${at}`, { ...packed, name: `${name}.${at}` });
    return `${name}.${at}`;
  });
  for (const node of group) for (const input of node.inputs.slice(1)) initializers.delete(input);
  initializers.set(`${name}.widths`, widthsTensor(`${name}.widths`, widths));
  const total = widths.reduce((sum, width) => sum + width, 0);
  const attributes = new Map(first.attributes);
  if (attributes.has("N")) attributes.set("N", { kind: "int", value: total });
  const projection = { ...first, name, inputs: [first.inputs[0]!, ...weights], outputs: [name], attributes };
  const split: GraphNode = {
    name: `${name}.split`,
    opType: "Split",
    domain: "",
    inputs: [name, `${name}.widths`],
    outputs: group.map((node) => node.outputs[0]!),
    attributes: new Map([["axis", { kind: "int", value: 2 }]]),
  };
  return [projection, split];
}

function widthOf({ inputs, attributes }: GraphNode, initializers: Map<string, TensorInfo>): number {
  const stated = attributes.get("N");
  return stated?.kind === "int" ? stated.value : initializers.get(inputs[1]!)!.dims[1]!;
}

/** [in, out] matrices, column after column. */
function besideEachOther(weights: TensorInfo[]): TensorInfo {
  const rows = weights[0]!.dims[0]!;
  const sources = weights.map((weight) => ({ bytes: readTensor(weight), rowBytes: weight.dims[1]! * 4 }));
  const rowBytes = sources.reduce((sum, source) => sum + source.rowBytes, 0);
  const bytes = new Uint8Array(rows * rowBytes);
  let start = 0;
  for (const source of sources) {
    for (let row = 0; row < rows; row++) {
      const from = row * source.rowBytes;
      bytes.set(source.bytes.subarray(from, from + source.rowBytes), row * rowBytes + start);
    }
    start += source.rowBytes;
  }
  return { name: "", dtype: "float32", dims: [rows, rowBytes / 4], data: { kind: "bytes", bytes } };
}

/** Tensors whose first axis is the output, or that are flat in its order. */
function underEachOther(weights: TensorInfo[]): TensorInfo {
  const [{ dtype, dims }] = weights as [TensorInfo];
  const bytes = Buffer.concat(weights.map(readTensor));
  const first = weights.reduce((sum, weight) => sum + weight.dims[0]!, 0);
  return { name: "", dtype, dims: [first, ...dims.slice(1)], data: { kind: "bytes", bytes } };
}

function widthsTensor(name: string, widths: number[]): TensorInfo {
  const bytes = new Uint8Array(BigInt64Array.from(widths, BigInt).buffer);
  return { name, dtype: "int64", dims: [widths.length], data: { kind: "bytes", bytes } };
}
