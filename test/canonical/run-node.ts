import { InferenceSession, Tensor } from "onnxruntime-node";

import type { Attribute, GraphNode, OnnxModel } from "../../src/onnx/model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { known, type Known } from "../../src/canonical/value.ts";

export interface NodeCase {
  opType: string;
  /** null: an input left out. */
  inputs: (Known | null)[];
  attributes?: Record<string, Attribute>;
  outputs?: number;
}

const DTYPES = { float: "float32", int: "int64", bool: "bool" } as const;

export function nodeOf({ opType, inputs, attributes = {}, outputs = 1 }: NodeCase): GraphNode {
  return {
    name: opType,
    opType,
    domain: "",
    inputs: inputs.map((input, i) => (input === null ? "" : `x${i}`)),
    outputs: Array.from({ length: outputs }, (_, i) => `y${i}`),
    attributes: new Map(Object.entries(attributes)),
  };
}

/** What ONNX Runtime makes of one node; numbers as doubles. */
export async function runNode(node: NodeCase): Promise<{ dims: number[]; data: number[] }[]> {
  const given = node.inputs.flatMap((input, i) => (input === null ? [] : [{ name: `x${i}`, value: input }]));
  const graphNode = nodeOf(node);
  const model: OnnxModel = {
    irVersion: 9,
    producer: "test",
    opsets: new Map([["", 18]]),
    functions: new Map(),
    graph: {
      name: "one",
      nodes: [graphNode],
      initializers: new Map(),
      inputs: given.map(({ name, value }) => ({ name, dtype: DTYPES[value.type], dims: value.dims.map(() => null) })),
      outputs: graphNode.outputs.map((name) => ({ name, dtype: "unknown", dims: null })),
    },
  };
  const session = await InferenceSession.create(writeModel(model), { logSeverityLevel: 4, intraOpNumThreads: 1 });
  try {
    const results = await session.run(Object.fromEntries(given.map(({ name, value }) => [name, tensorOf(value)])));
    return graphNode.outputs.map((name) => {
      const { dims, data } = results[name]!;
      return { dims: [...dims], data: Array.from(data as ArrayLike<number | bigint>, Number) };
    });
  } finally {
    await session.release();
  }
}

function tensorOf({ type, dims, read }: Known): Tensor {
  const data = read();
  if (type === "float") return new Tensor("float32", Float32Array.from(data), dims);
  if (type === "bool") return new Tensor("bool", Uint8Array.from(data), dims);
  return new Tensor(
    "int64",
    BigInt64Array.from(data, (each) => BigInt(each)),
    dims,
  );
}

export const int = (value: number): Attribute => ({ kind: "int", value });
export const ints = (value: number[]): Attribute => ({ kind: "ints", value });

export function integers(values: number[], dims = [values.length]): Known {
  return known(dims, "int", Float64Array.from(values));
}

export function floats(values: ArrayLike<number>, dims = [values.length]): Known {
  return known(dims, "float", Float64Array.from(values));
}

export function bools(values: number[], dims = [values.length]): Known {
  return known(dims, "bool", Float64Array.from(values));
}
