import { expect, test } from "vitest";
import { fuseParts } from "../../src/chain/fuse-parts.ts";
import type { GraphNode, OnnxModel, TensorInfo, ValueInfo } from "../../src/onnx/model.ts";

function node(
  opType: string,
  inputs: string[],
  outputs: string[],
  attributes: GraphNode["attributes"] = new Map(),
): GraphNode {
  return { name: "", opType, domain: "", inputs, outputs, attributes };
}

function weight(name: string, path: string): TensorInfo {
  return { name, dtype: "float32", dims: [4, 4], data: { kind: "file", path, offset: 0, length: 64 } };
}

function values(names: string[]): ValueInfo[] {
  return names.map((name) => ({ name, dtype: "float32", dims: [1, "N", 4] }));
}

function part(
  inputs: string[],
  outputs: string[],
  { nodes, weights = [] }: { nodes: GraphNode[]; weights?: TensorInfo[] },
): OnnxModel {
  const initializers = new Map(weights.map((tensor) => [tensor.name, tensor]));
  const graph = { name: "part", nodes, initializers, inputs: values(inputs), outputs: values(outputs) };
  return { irVersion: 10, producer: "test", opsets: new Map([["", 24]]), graph, functions: new Map() };
}

const OUT = part(["hidden", "o"], ["hidden_out"], {
  nodes: [node("MatMul", ["o", "weight"], ["x"]), node("Add", ["hidden", "x"], ["hidden_out"])],
  weights: [weight("weight", "/blobs/a")],
});
const MLP = part(["hidden"], ["hidden_out"], {
  nodes: [node("MatMul", ["hidden", "weight"], ["x"]), node("Add", ["hidden", "x"], ["hidden_out"])],
  weights: [weight("weight", "/blobs/b")],
});
const IN = part(["hidden", "cos"], ["q", "k"], {
  nodes: [node("MatMul", ["hidden", "same"], ["q"]), node("Mul", ["q", "cos"], ["k"])],
  weights: [weight("same", "/blobs/a")],
});

test("joins the stream, keeps the last hidden_out beside q and k, and names a shared weight once", () => {
  const { graph } = fuseParts([OUT, MLP, IN]);
  expect(graph.inputs.map(({ name }) => name)).toEqual(["hidden", "o", "cos"]);
  expect(graph.outputs.map(({ name }) => name)).toEqual(["hidden_out", "q", "k"]);
  expect(graph.nodes.map(({ opType, inputs, outputs }) => [opType, ...inputs, "→", ...outputs].join(" "))).toEqual([
    "MatMul o 0.weight → 0.x",
    "Add hidden 0.x → 0.hidden_out",
    "MatMul 0.hidden_out 1.weight → 1.x",
    "Add 0.hidden_out 1.x → hidden_out",
    "MatMul hidden_out 0.weight → q",
    "Mul q cos → k",
  ]);
  expect([...graph.initializers.keys()]).toEqual(["0.weight", "1.weight"]);
  expect(new Set(graph.nodes.map(({ name }) => name)).size).toBe(6);
});

test("equal constants of several parts become one, other weights inside a graph stay apart", () => {
  const inside = (name: string, fill: number, dims: number[]): TensorInfo => {
    const bytes = new Uint8Array(dims.reduce((product, dim) => product * dim, 4)).fill(fill);
    return { name, dtype: "float32", dims, data: { kind: "bytes", bytes } };
  };
  const adding = (tensors: TensorInfo[]): OnnxModel => {
    const nodes = tensors.map(({ name }, at) => node("Add", [at === 0 ? "hidden" : `x${at - 1}`, name], [`x${at}`]));
    nodes.push(node("Identity", [`x${tensors.length - 1}`], ["hidden_out"]));
    return part(["hidden"], ["hidden_out"], { nodes, weights: tensors });
  };
  const { graph } = fuseParts([
    adding([inside("a", 1, [4]), inside("b", 1, [4]), inside("large", 1, [64, 128])]),
    adding([inside("a", 2, [4]), inside("c", 1, [4]), inside("row", 1, [1, 4]), inside("large", 1, [64, 128])]),
  ]);
  expect([...graph.initializers.keys()]).toEqual(["0.a", "0.large", "1.a", "1.row", "1.large"]);
  const added = graph.nodes.filter(({ opType }) => opType === "Add").map(({ inputs }) => inputs[1]);
  expect(added).toEqual(["0.a", "0.a", "0.large", "1.a", "0.a", "1.row", "1.large"]);
});

test("bodies see the renamed values of the graph around them, but keep their own names", () => {
  const body = {
    name: "body",
    nodes: [node("Add", ["inner", "hidden"], ["y"]), node("Mul", ["y", "hidden"], ["inner"])],
    initializers: new Map(),
    inputs: [],
    outputs: [],
  };
  const loop = part(["hidden"], ["hidden_out"], {
    nodes: [node("If", ["hidden"], ["hidden_out"], new Map([["then_branch", { kind: "graph", value: body }]]))],
  });
  const attribute = fuseParts([MLP, loop]).graph.nodes.at(-1)!.attributes.get("then_branch")!;
  if (attribute.kind !== "graph") throw new Error("unreachable");
  expect(attribute.value.nodes.map(({ inputs, outputs }) => [inputs, outputs])).toEqual([
    [["inner", "0.hidden_out"], ["y"]],
    [["y", "0.hidden_out"], ["inner"]],
  ]);
});

test("refuses parts of different operator sets", () => {
  const older = { ...MLP, opsets: new Map([["", 21]]) };
  expect(() => fuseParts([OUT, older])).toThrow("versions 24 and 21");
});
