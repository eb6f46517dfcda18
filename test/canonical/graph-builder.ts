import type { Attribute, ElementType, GraphNode, OnnxModel, TensorInfo, ValueInfo } from "../../src/onnx/model.ts";

type AttributeValue = number | number[] | string | { float: number } | { graph: GraphBuilder; outputs: string[] };

/** Writes ONNX graphs node by node; `add` names its output and gives the name. */
export class GraphBuilder {
  readonly nodes: GraphNode[] = [];
  readonly initializers = new Map<string, TensorInfo>();
  readonly #scope: string;
  #count = 0;

  constructor(scope = "v") {
    this.#scope = scope;
  }

  add(
    opType: string,
    inputs: string[],
    attributes: Record<string, AttributeValue> = {},
    output = this.#name(),
  ): string {
    return this.addMany(opType, inputs, attributes, [output])[0]!;
  }

  addMany(opType: string, inputs: string[], attributes: Record<string, AttributeValue>, outputs: string[]): string[] {
    const [domain, name] = opType.includes(".") ? ["com.microsoft", opType.split(".").at(-1)!] : ["", opType];
    const entries = Object.entries(attributes).map(([key, value]): [string, Attribute] => [key, attribute(value)]);
    this.nodes.push({ name: outputs[0]!, opType: name, domain, inputs, outputs, attributes: new Map(entries) });
    return outputs;
  }

  /** One of two values of this graph. */
  addIf(condition: string, yes: string, no: string): string {
    const branch = (value: string, label: string) => {
      const graph = new GraphBuilder(`${this.#name()}.${label}.`);
      return { graph, outputs: [graph.add("Identity", [value])] };
    };
    const attributes = { then_branch: branch(yes, "yes"), else_branch: branch(no, "no") };
    return this.add("If", [condition], attributes, `${this.#name()}.if`);
  }

  ints(values: number[], dims = [values.length]): string {
    return this.#initializer("int64", dims, new Uint8Array(BigInt64Array.from(values, BigInt).buffer));
  }

  int(value: number): string {
    return this.ints([value], []);
  }

  floats(values: ArrayLike<number>, dims = [values.length]): string {
    return this.#initializer("float32", dims, new Uint8Array(Float32Array.from(values).buffer));
  }

  float(value: number): string {
    return this.floats([value], []);
  }

  bytes(dtype: ElementType, bytes: Uint8Array, dims: number[]): string {
    return this.#initializer(dtype, dims, bytes);
  }

  #initializer(dtype: ElementType, dims: number[], bytes: Uint8Array): string {
    const name = `${this.#name()}.constant`;
    this.initializers.set(name, { name, dtype, dims, data: { kind: "bytes", bytes } });
    return name;
  }

  #name(): string {
    return `${this.#scope}${this.#count++}`;
  }

  model(inputs: ValueInfo[], outputs: ValueInfo[], opset = 18): OnnxModel {
    const { nodes, initializers } = this;
    return {
      irVersion: 9,
      producer: "test",
      opsets: new Map([
        ["", opset],
        ["com.microsoft", 1],
      ]),
      graph: { name: "graph", nodes, initializers, inputs, outputs },
      functions: new Map(),
    };
  }
}

function attribute(value: AttributeValue): Attribute {
  if (typeof value === "number") return { kind: "int", value };
  if (typeof value === "string") return { kind: "string", value };
  if (Array.isArray(value)) return { kind: "ints", value };
  if ("float" in value) return { kind: "float", value: value.float };
  const { nodes, initializers } = value.graph;
  const outputs = value.outputs.map((name): ValueInfo => ({ name, dtype: "unknown", dims: null }));
  return { kind: "graph", value: { name: "branch", nodes, initializers, inputs: [], outputs } };
}

/** Numbers in [-1, 1) that are the same in every run. */
export function numbers(seed: number, length: number, scale = 1): Float32Array {
  let state = seed * 2654435761 + 1;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 3266489917) | 0;
    return ((state >>> 0) / 2 ** 31 - 1) * scale;
  });
}
