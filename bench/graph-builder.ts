import type { Attribute, GraphNode } from "../src/onnx/model.ts";

/** Collects the nodes of a generated graph, in the order in which they compute. */
export class GraphBuilder {
  readonly nodes: GraphNode[] = [];

  add(
    opType: string,
    inputs: string[],
    outputs: string[],
    values: Record<string, number | number[]> = {},
    domain = "",
  ): void {
    const attributes = new Map(Object.entries(values).map(([name, value]) => [name, attributeOf(name, value)]));
    this.nodes.push({ name: `/model/${opType}_${this.nodes.length}`, opType, domain, inputs, outputs, attributes });
  }

  /** An int64 constant of these dims. */
  constant(name: string, dims: number[], values: number[]): void {
    const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    const value = { name, dtype: "int64" as const, dims, data: { kind: "bytes" as const, bytes } };
    const attributes = new Map<string, Attribute>([["value", { kind: "tensor", value }]]);
    this.nodes.push({ name, opType: "Constant", domain: "", inputs: [], outputs: [name], attributes });
  }
}

const FLOATS = new Set(["epsilon", "scale", "softcap"]);

function attributeOf(name: string, value: number | number[]): Attribute {
  if (Array.isArray(value)) return { kind: "ints", value };
  return FLOATS.has(name) ? { kind: "float", value } : { kind: "int", value };
}
