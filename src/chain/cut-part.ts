import type { Port } from "../blocks/block.ts";
import type { GraphNode, OnnxGraph, OnnxModel } from "../onnx/model.ts";
import type { PartCut } from "./chain.ts";
import { rowWidths } from "./row-widths.ts";

/** What a run of a part's nodes takes, gives and holds. */
export interface PartRun {
  model: OnnxModel;
  inputs: Port[];
  outputs: Port[];
  /** Ports between runs that later runs still take. */
  live: Port[];
}

/**
 * Nodes [from, to) of a part as a part of its own. Values that cross come and go by ports named `~whole.value`; what the
 * whole part gives comes out of its last run. Throws where a value that crosses is no float32 row.
 */
export function cutPart(
  whole: OnnxModel,
  { name: wholeName, inputs, outputs }: PartCut["whole"],
  { from, to }: Pick<PartCut, "from" | "to">,
): PartRun {
  const { nodes, initializers } = whole.graph;
  const widths = rowWidths(whole.graph, inputs);
  const last = to === nodes.length;
  const given = last ? outputs.map(({ name }) => name as string) : [];
  const before = crossing(whole.graph, from);
  const after = crossing(whole.graph, to);
  const own = nodes.slice(from, to);
  const used = new Set([...own.flatMap((node) => node.inputs), ...given]);

  const rename = new Map<string, string>();
  for (const name of [...before, ...after]) rename.set(name, `~${wholeName}.${name}`);
  const port = (name: string): Port => ({ name: rename.get(name) as Port["name"], width: widthAt(widths, name) });
  const taken = [
    ...inputs.filter(({ name }) => used.has(name)),
    ...[...before].filter((name) => used.has(name)).map(port),
  ];
  const made = new Set(own.flatMap((node) => node.outputs));
  const left = last ? outputs : [...after].filter((name) => made.has(name)).map(port);

  const graph: OnnxGraph = {
    name: whole.graph.name,
    nodes: [...own.map((node) => renameValues(node, rename)), ...given.flatMap((name) => passOn(name, rename))],
    initializers: new Map([...initializers].filter(([name]) => used.has(name))),
    inputs: taken.map(({ name, width }) => rowValue(name, width)),
    outputs: left.map(({ name, width }) => rowValue(name, width)),
  };
  return { model: { ...whole, graph }, inputs: taken, outputs: left, live: [...after].map(port) };
}

/** Positions at which a part can be cut, with the elements per token that would cross there. */
export function cutPositions(whole: OnnxModel, inputs: Port[]): { at: number; width: number }[] {
  const widths = rowWidths(whole.graph, inputs);
  return whole.graph.nodes.slice(1).flatMap((_, before) => {
    const names = [...crossing(whole.graph, before + 1)];
    if (names.some((name) => !widths.has(name))) return [];
    return [{ at: before + 1, width: names.reduce((sum, name) => sum + widths.get(name)!, 0) }];
  });
}

/** Values that nodes before a position make and nodes from there on, or the part's outputs, take. */
function crossing({ nodes, outputs }: OnnxGraph, at: number): Set<string> {
  if (at === 0 || at === nodes.length) return new Set();
  const made = new Set(nodes.slice(0, at).flatMap((node) => node.outputs));
  const wanted = [...nodes.slice(at).flatMap((node) => node.inputs), ...outputs.map(({ name }) => name)];
  return new Set(wanted.filter((name) => made.has(name)));
}

/** An output of the whole part that an earlier run made goes through the last one as it is. */
function passOn(name: string, rename: Map<string, string>): GraphNode[] {
  const value = rename.get(name);
  if (value === undefined) return [];
  return [{ name, opType: "Identity", domain: "", inputs: [value], outputs: [name], attributes: new Map() }];
}

function renameValues(node: GraphNode, rename: Map<string, string>): GraphNode {
  const named = (name: string): string => rename.get(name) ?? name;
  return { ...node, inputs: node.inputs.map(named), outputs: node.outputs.map(named) };
}

function rowValue(name: string, width: number): OnnxGraph["inputs"][number] {
  return { name, dtype: "float32", dims: [1, "N", width] };
}

function widthAt(widths: Map<string, number>, name: string): number {
  const width = widths.get(name);
  if (width === undefined) throw new Error(`The value ${name} is no row that could cross from one session to another`);
  return width;
}
