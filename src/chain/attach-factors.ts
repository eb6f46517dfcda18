import type { GraphNode, OnnxModel, TensorInfo } from "../onnx/model.ts";

/** What is added to one projection of a part: (x·down)·up. */
export interface AttachedFactors {
  /** The projection's weight, by its name in the graph. */
  weight: string;
  /** [in, rank] and [rank, out]; half precision is computed in float32. */
  down: TensorInfo;
  up: TensorInfo;
  /** Default 1. */
  scale?: number;
  /** bool [choices, rank]: of x·down a row keeps the columns of its choice. Absent: all. */
  columns?: TensorInfo;
}

/** int64 [1, N]: the choice of each row, where factors have `columns`. */
export const ADAPTER_INPUT = "adapter";

/**
 * A part graph whose projections give x·W + scale · (x·down)·up. The projection itself stays as it is: its node keeps
 * its inputs and gets another output name. Throws when the graph has no projection by a weight.
 */
export function attachFactors(model: OnnxModel, attached: readonly AttachedFactors[]): OnnxModel {
  if (attached.length === 0) return model;
  const { graph } = model;
  const nodes = [...graph.nodes];
  const initializers = new Map(graph.initializers);
  const put = (name: string, tensor: TensorInfo): string => {
    initializers.set(name, { ...tensor, name });
    return name;
  };
  for (const { weight, down, up, scale, columns } of attached) {
    const at = nodes.findIndex((node) => node.inputs.includes(weightInside(nodes, weight)));
    const projection = nodes[at];
    if (projection === undefined || !initializers.has(weight)) throw new Error(`No projection takes ${weight}`);
    const [output] = projection.outputs as [string];
    const name = `${weight}.adapter`;
    const add: GraphNode[] = [];
    const operation = (opType: string, inputs: string[], result: string): string => {
      add.push({ name: result, opType, domain: "", inputs, outputs: [result], attributes: new Map() });
      return result;
    };
    const factor = (label: string, tensor: TensorInfo): string => {
      const stored = put(`${name}.${label}`, tensor);
      return tensor.dtype === "float32" ? stored : toFloat(add, stored);
    };
    let narrow = operation("MatMul", [projection.inputs[0]!, factor("down", down)], `${name}.rank`);
    if (columns !== undefined) {
      const own = operation("Gather", [put(`${name}.columns`, columns), ADAPTER_INPUT], `${name}.own`);
      // Not a product with 0: another adapter's overflow would become NaN in this row.
      narrow = operation("Where", [own, narrow, put(`${name}.zero`, scalar(0))], `${name}.kept`);
    }
    let added = operation("MatMul", [narrow, factor("up", up)], `${name}.added`);
    if (scale !== undefined && scale !== 1)
      added = operation("Mul", [added, put(`${name}.scale`, scalar(scale))], `${name}.scaled`);
    operation("Add", [`${output}.plain`, added], output);
    nodes.splice(at, 1, { ...projection, name: `${output}.plain`, outputs: [`${output}.plain`] }, ...add);
  }
  const chooses = attached.some(({ columns }) => columns !== undefined);
  const inputs = chooses
    ? [...graph.inputs, { name: ADAPTER_INPUT, dtype: "int64" as const, dims: [1, "N"] }]
    : graph.inputs;
  return { ...model, graph: { ...graph, nodes, initializers, inputs } };
}

/** The name under which a projection takes a weight that is stored in half precision or in integers. */
function weightInside(nodes: readonly GraphNode[], weight: string): string {
  const widened = nodes.find(
    ({ opType, inputs }) => (opType === "Cast" || opType === "DequantizeLinear") && inputs[0] === weight,
  );
  return widened?.outputs[0] ?? weight;
}

function toFloat(nodes: GraphNode[], stored: string): string {
  const float = `${stored}.float`;
  const attributes = new Map([["to", { kind: "int" as const, value: 1 }]]);
  nodes.push({ name: float, opType: "Cast", domain: "", inputs: [stored], outputs: [float], attributes });
  return float;
}

function scalar(value: number): TensorInfo {
  const bytes = new Uint8Array(Float32Array.of(value).buffer);
  return { name: "", dtype: "float32", dims: [], data: { kind: "bytes", bytes } };
}
