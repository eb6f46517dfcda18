import type { GraphNode, OnnxGraph, OnnxModel, TensorInfo } from "../onnx/model.ts";

/** A lookup that is no longer in the graph: who runs it feeds the rows. */
export interface LiftedTable {
  /** The graph's new input: float32 [1, N, width]. */
  input: string;
  /** What is looked up: the values of this port. */
  index: "ids" | "positions";
  /** [rows, width], in a file. */
  table: TensorInfo & { data: { kind: "file" } };
}

/**
 * Tables that are only looked into leave the graph: `Gather(table, ids)` becomes an input of the rows themselves, already as
 * float32. A table whose numbers are not plain floats in a file stays, and so does a weight that something else takes too.
 */
export function liftTables(model: OnnxModel): { model: OnnxModel; lifted: LiftedTable[] } {
  const { graph } = model;
  const lifted = new Map<GraphNode, LiftedTable>();
  for (const node of graph.nodes) {
    const found = lookup(node, graph);
    if (found !== null) lifted.set(node, found);
  }
  if (lifted.size === 0) return { model, lifted: [] };
  const nodes = graph.nodes.map((node) => (lifted.has(node) ? passOn(node, lifted.get(node)!) : node));
  const used = namesIn(nodes);
  const rows = Array.from(lifted.values(), ({ input, table }) => ({
    name: input,
    dtype: "float32" as const,
    dims: [1, "N", table.dims[1]!],
  }));
  const lean: OnnxGraph = {
    ...graph,
    nodes,
    initializers: new Map([...graph.initializers].filter(([name]) => used.has(name))),
    inputs: [...graph.inputs.filter(({ name }) => used.has(name)), ...rows],
  };
  return { model: { ...model, graph: lean }, lifted: [...lifted.values()] };
}

const FLOATS = new Set(["float32", "float16", "bfloat16"]);

function lookup({ opType, domain, inputs, outputs, attributes }: GraphNode, graph: OnnxGraph): LiftedTable | null {
  const axis = attributes.get("axis");
  if (opType !== "Gather" || domain !== "" || (axis !== undefined && (axis.kind !== "int" || axis.value !== 0)))
    return null;
  const [name, index] = inputs as [string, string];
  const table = graph.initializers.get(name);
  if (table?.data.kind !== "file" || table.dims.length !== 2 || !FLOATS.has(table.dtype)) return null;
  if ((index !== "ids" && index !== "positions") || !graph.inputs.some((input) => input.name === index)) return null;
  return { index, input: `${outputs[0]!}.rows`, table: { ...table, data: table.data } };
}

/** Rows are float32 now; a cast behind them changes nothing. */
function passOn({ name, outputs }: GraphNode, { input }: LiftedTable): GraphNode {
  return { name, opType: "Identity", domain: "", inputs: [input], outputs, attributes: new Map() };
}

/** All that nodes take, those of bodies inside them included. */
function namesIn(nodes: readonly GraphNode[]): Set<string> {
  const names = new Set<string>();
  for (const { inputs, attributes } of nodes) {
    for (const name of inputs) names.add(name);
    for (const attribute of attributes.values()) {
      if (attribute.kind !== "graph") continue;
      for (const name of namesIn(attribute.value.nodes)) names.add(name);
      for (const { name } of attribute.value.outputs) names.add(name);
    }
  }
  return names;
}
