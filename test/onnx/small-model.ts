import type { Attribute, GraphNode, OnnxFunction, OnnxModel } from "../../src/onnx/model.ts";

interface NodeParts {
  opType: string;
  inputs: string[];
  outputs: string[];
  domain?: string;
  attributes?: Record<string, Attribute>;
}

export function node({ opType, inputs, outputs, domain = "", attributes = {} }: NodeParts): GraphNode {
  return { name: "", opType, domain, inputs, outputs, attributes: new Map(Object.entries(attributes)) };
}

/** float32 x[n] → y[n] through `nodes`, with model-local functions of the domain "local". */
export function smallModel(nodes: GraphNode[], functions: OnnxFunction[] = []): OnnxModel {
  return {
    irVersion: 10,
    producer: "",
    opsets: new Map([
      ["", 21],
      ["local", 1],
    ]),
    functions: new Map(functions.map((definition) => [`${definition.domain}::${definition.name}`, definition])),
    graph: {
      name: "small",
      nodes,
      initializers: new Map(),
      inputs: [{ name: "x", dtype: "float32", dims: ["n"] }],
      outputs: [{ name: "y", dtype: "float32", dims: ["n"] }],
    },
  };
}

export function localFunction(parts: Partial<OnnxFunction> & { name: string }): OnnxFunction {
  const opsets = new Map([
    ["", 21],
    ["local", 1],
  ]);
  return { domain: "local", inputs: [], outputs: [], attributes: [], defaults: new Map(), nodes: [], opsets, ...parts };
}
