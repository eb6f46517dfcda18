import type { GraphNode, OnnxModel } from "../onnx/model.ts";

/** How a projection's weight lies. */
export interface Projection {
  /** [out, in], as the head's table is; else [in, out]. */
  transposed: boolean;
}

/**
 * The weights of a part that low-rank factors can add to (adapter.ts), by name: floats that one matrix product and
 * nothing else takes. Tables that rows are picked from, norms and quantised weights are none.
 */
export function projectionsOf({ graph }: OnnxModel): Map<string, Projection> {
  const projections = new Map<string, Projection>();
  for (const name of graph.initializers.keys()) {
    const [taker, ...others] = graph.nodes.filter(({ inputs }) => inputs.includes(name));
    if (taker === undefined || others.length > 0) continue;
    const product = taker.opType === "Cast" ? onlyTaker(graph.nodes, taker.outputs[0]!) : taker;
    const value = taker.opType === "Cast" ? taker.outputs[0]! : name;
    if (product === undefined || product.inputs[1] !== value || product.inputs[0] === value) continue;
    if (product.opType === "MatMul") projections.set(name, { transposed: false });
    if (product.opType === "FusedMatMul" && isTransposed(product)) projections.set(name, { transposed: true });
  }
  return projections;
}

function onlyTaker(nodes: GraphNode[], value: string): GraphNode | undefined {
  const takers = nodes.filter(({ inputs }) => inputs.includes(value));
  return takers.length === 1 ? takers[0] : undefined;
}

/** x · Wᵀ and nothing more. */
function isTransposed({ attributes }: GraphNode): boolean {
  const [[name, value] = [], ...others] = [...attributes];
  return name === "transB" && value?.kind === "int" && value.value === 1 && others.length === 0;
}
