import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { inlineFunctions } from "../../src/onnx/inline-functions.ts";
import type { GraphNode, OnnxGraph, OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { localFunction, node, smallModel } from "./small-model.ts";

const keepNone = () => false;

/** y = LeakyRelu(x + x) with the caller's slope, or 0.5. */
const leaky = localFunction({
  name: "Leaky",
  inputs: ["a", "unused"],
  outputs: ["b"],
  attributes: ["given"],
  defaults: new Map([["slope", { kind: "float", value: 0.5 }]]),
  nodes: [
    node({ opType: "Add", inputs: ["a", "a"], outputs: ["t"] }),
    node({
      opType: "LeakyRelu",
      inputs: ["t"],
      outputs: ["b"],
      attributes: { alpha: { kind: "reference", value: "slope", type: "float" } },
    }),
  ],
});

const twice = localFunction({
  name: "Twice",
  inputs: ["a"],
  outputs: ["b", "same", "input"],
  nodes: [
    node({ opType: "Leaky", domain: "local", inputs: ["a"], outputs: ["t"] }),
    node({
      opType: "Leaky",
      domain: "local",
      inputs: ["t"],
      outputs: ["b"],
      attributes: { slope: { kind: "float", value: 0.25 } },
    }),
    node({ opType: "Identity", inputs: ["b"], outputs: ["same"] }),
    node({ opType: "Identity", inputs: ["a"], outputs: ["input"] }),
  ],
});

async function run(model: OnnxModel): Promise<number[]> {
  const session = await InferenceSession.create(writeModel(model));
  const { y } = await session.run({ x: new Tensor("float32", Float32Array.of(-4, 3), [2]) });
  await session.release();
  return [...(y!.data as Float32Array)];
}

describe("the inlined model computes what ONNX Runtime computes with the functions", () => {
  test("nested calls, defaults and given attributes, a value named as in the caller", async () => {
    const model = smallModel(
      [
        node({ opType: "Leaky", domain: "local", inputs: ["x"], outputs: ["t"] }),
        node({ opType: "Twice", domain: "local", inputs: ["t"], outputs: ["b", "p", "q"] }),
        node({ opType: "Sum", inputs: ["b", "t", "p", "q"], outputs: ["y"] }),
      ],
      [leaky, twice],
    );
    const inlined = inlineFunctions(model, keepNone);
    expect(inlined.functions.size).toBe(0);
    expect(inlined.graph.nodes.map(({ domain }) => domain)).not.toContain("local");
    expect(await run(inlined)).toEqual(await run(model));
  });

  test("calls inside a sub-graph, and a body with one", async () => {
    const choose = localFunction({
      name: "Choose",
      inputs: ["a", "condition"],
      outputs: ["b"],
      nodes: [
        node({
          opType: "If",
          inputs: ["condition"],
          outputs: ["b"],
          attributes: {
            then_branch: { kind: "graph", value: branch("then", "Leaky") },
            else_branch: { kind: "graph", value: branch("else", "Neg") },
          },
        }),
      ],
    });
    const model = smallModel(
      [
        node({ opType: "ReduceSum", inputs: ["x"], outputs: ["sum"] }),
        node({ opType: "Cast", inputs: ["sum"], outputs: ["c"], attributes: { to: { kind: "int", value: 9 } } }),
        node({ opType: "Squeeze", inputs: ["c"], outputs: ["condition"] }),
        node({ opType: "Choose", domain: "local", inputs: ["x", "condition"], outputs: ["y"] }),
      ],
      [leaky, choose],
    );
    expect(await run(inlineFunctions(model, keepNone))).toEqual(await run(model));
  });
});

test("an output that is an input of the function gets a node of its own", async () => {
  const same = localFunction({ name: "Same", inputs: ["a"], outputs: ["a"] });
  const model = smallModel([node({ opType: "Same", domain: "local", inputs: ["x"], outputs: ["y"] })], [same]);
  expect(await run(inlineFunctions(model, keepNone))).toEqual([-4, 3]);
});

test("an attribute that nobody gives is left out", () => {
  const optional = localFunction({
    name: "Optional",
    inputs: ["a"],
    outputs: ["b"],
    attributes: ["alpha"],
    nodes: [
      node({
        opType: "LeakyRelu",
        inputs: ["a"],
        outputs: ["b"],
        attributes: { alpha: { kind: "reference", value: "alpha", type: "float" } },
      }),
    ],
  });
  const model = smallModel([node({ opType: "Optional", domain: "local", inputs: ["x"], outputs: ["y"] })], [optional]);
  expect(inlineFunctions(model, keepNone).graph.nodes).toEqual([
    node({ opType: "LeakyRelu", inputs: ["x"], outputs: ["y"] }),
  ]);
});

test("a kept function stays a plain operator", async () => {
  const path = fileURLToPath(new URL("../../fixtures/exports/mobius/llama-default-f32/model.onnx", import.meta.url));
  const model = await readModel(path);
  expect(model.functions.size).toBe(1);
  const kept = inlineFunctions(model, (domain) => domain === "com.microsoft");
  expect(kept.functions.size).toBe(0);
  expect(kept.graph.nodes).toEqual(model.graph.nodes);
  const inlined = inlineFunctions(model, keepNone);
  expect(inlined.graph.nodes.length).toBeGreaterThan(model.graph.nodes.length);
  expect(inlined.graph.nodes.some(({ opType }) => opType.startsWith("Skip"))).toBe(false);
});

test("functions that call themselves, blow up or disagree are refused", () => {
  const ring = ["A", "B"].map((name, index) =>
    localFunction({ name, inputs: ["a"], outputs: ["b"], nodes: [call(index === 0 ? "B" : "A", "a", "b")] }),
  );
  expect(() => inlineFunctions(smallModel([call("A", "x", "y")], ring), keepNone)).toThrow(
    expect.objectContaining({
      code: "model_invalid",
      message: expect.stringContaining("local::A → local::B → local::A"),
    }),
  );

  const doubling = Array.from({ length: 22 }, (_, level) =>
    localFunction({
      name: `L${level}`,
      inputs: ["a"],
      outputs: ["b"],
      nodes:
        level === 21
          ? [node({ opType: "Neg", inputs: ["a"], outputs: ["b"] })]
          : [call(`L${level + 1}`, "a", "t"), call(`L${level + 1}`, "t", "b")],
    }),
  );
  expect(() => inlineFunctions(smallModel([call("L0", "x", "y")], doubling), keepNone)).toThrow(
    expect.objectContaining({ code: "model_too_large" }),
  );

  const old = localFunction({ name: "Old", inputs: ["a"], outputs: ["b"], opsets: new Map([["", 13]]) });
  expect(() => inlineFunctions(smallModel([call("Old", "x", "y")], [old]), keepNone)).toThrow(
    expect.objectContaining({ code: "model_unsupported", message: expect.stringMatching(/13.*21/) }),
  );

  const wide = node({ opType: "Leaky", domain: "local", inputs: ["x", "x", "x"], outputs: ["y"] });
  expect(() => inlineFunctions(smallModel([wide], [leaky]), keepNone)).toThrow(/gives 3 inputs .* has 2 and 1/);
});

function branch(name: string, opType: string): OnnxGraph {
  const domain = opType === "Neg" ? "" : "local";
  return {
    name,
    nodes: [node({ opType, domain, inputs: ["a"], outputs: [`${name}_out`] })],
    initializers: new Map(),
    inputs: [],
    outputs: [{ name: `${name}_out`, dtype: "float32", dims: null }],
  };
}

function call(name: string, input: string, output: string): GraphNode {
  return node({ opType: name, domain: "local", inputs: [input], outputs: [output] });
}
