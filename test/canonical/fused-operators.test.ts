import { describe, expect, it } from "vitest";

import type { GraphNode, OnnxModel } from "../../src/onnx/model.ts";
import { GraphBuilder, numbers } from "./graph-builder.ts";
import { splitAndVerify } from "./split-model.ts";
import { TINY, tinyDecoder, type Changes } from "./tiny-decoder.ts";

/** Operators that ONNX Runtime's optimiser and quantiser write, behind the MLP of each layer. */
type Step = NonNullable<Changes["afterMlp"]>;

const { hidden } = TINY;
const MS = "com.microsoft.";

describe("cut, and computes the same", () => {
  it.each<[string, Step]>([
    ["a QuickGelu that is no SiLU", (g, x) => g.add(`${MS}QuickGelu`, [x], { alpha: { float: 1.702 } })],
    ["a GELU with its bias", (g, x) => g.add(`${MS}BiasGelu`, [x, g.floats(numbers(7, hidden))])],
    [
      "a Gemm with its activation",
      flat((g, x) =>
        g.add(`${MS}FusedGemm`, [x, floats(g, 8), g.floats(numbers(9, hidden))], { activation: "Relu", transB: 1 }),
      ),
    ],
    ["a product that turns its weight and scales", fusedProduct({ transB: 1, alpha: { float: 0.5 } })],
    ["rows on a grid", onGrid(128, "uint8")],
    ["rows on a grid of signed integers", onGrid(-3, "int8")],
    ["a product of integers, rounded again", (g, x) => dequantised(g, qLinear(g, quantised(g, x)))],
    [
      "a product of integers as numbers",
      (g, x) => {
        const { scale, zero } = grid(g);
        const operands = [quantised(g, x), integers(g), scale, g.float(0.01), zero, zeroOf(g, "int8", 0)];
        return g.add(`${MS}MatMulIntegerToFloat`, [...operands, g.floats(numbers(11, hidden))]);
      },
    ],
    [
      "rows rounded by a scale of their own, times integers",
      (g, x) => g.add(`${MS}DynamicQuantizeMatMul`, [x, integers(g), g.float(0.01), zeroOf(g, "int8", 0)]),
    ],
    [
      "the same as two operators, with a scale for each column",
      (g, x) => {
        const [rounded, scale, zero] = g.addMany("DynamicQuantizeLinear", [x], {}, ["r", "s", "z"].map(named));
        const scales = g.floats(numbers(12, hidden).map((each) => 0.01 + Math.abs(each) / 100));
        return g.add(`${MS}MatMulIntegerToFloat`, [rounded!, integers(g), scale!, scales, zero!]);
      },
    ],
    ["blocks that take columns in another order", grouped((column) => (column * 7) % 2)],
    ["blocks that take columns in order", grouped((column) => Math.floor(column / 16))],
  ])("%s", async (_, afterMlp) => {
    const { reason, verification } = await splitAndVerify(tinyDecoder({ afterMlp }));
    expect(reason).toBe("");
    expect(verification).toMatchObject({ passed: true, greedy_equal: true });
  });
});

it("integers that fill a graph input, as an adapter's do, are multiplied as ONNX Runtime does: in floats", async () => {
  const model = tinyDecoder({ afterMlp: grouped(null) });
  for (const { opType, inputs } of model.graph.nodes) {
    if (opType !== "MatMulNBits") continue;
    const { name, dtype, dims } = model.graph.initializers.get(inputs[1]!)!;
    model.graph.inputs.push({ name, dtype, dims });
  }
  const { reason, verification } = await splitAndVerify(model);
  expect(reason).toBe("");
  expect(verification.max_abs_logit_diff).toBeLessThan(1e-4);
});

it("learned positions from a table in blocks are cut, and compute the same", async () => {
  const model = rewritten("Gather", (g, { inputs, outputs }) => {
    const table = g.bytes(
      "uint8",
      Uint8Array.from(numbers(16, 1024), (each) => 128 + each * 127),
      [128, 8],
    );
    const operands = [table, "position_ids", g.floats(numbers(17, 128, 0.02), [128, 1])];
    const attributes = { bits: 4, block_size: 16, gather_axis: 0, quantize_axis: 1 };
    const rows = g.add("Gather", inputs);
    g.add("Add", [rows, g.add(`${MS}GatherBlockQuantized`, operands, attributes)], {}, outputs[0]);
  });
  const { reason, verification } = await splitAndVerify(model);
  expect(reason).toBe("");
  expect(verification).toMatchObject({ passed: true, greedy_equal: true });
});

it("weights packed for one kind of GPU are refused: the CPU would read other numbers", async () => {
  const model = tinyDecoder({ afterMlp: grouped(null) });
  const product = model.graph.nodes.find(({ opType }) => opType === "MatMulNBits")!;
  product.attributes.set("weight_prepacked", { kind: "int", value: 1 });
  await expect(splitAndVerify(model)).rejects.toMatchObject({ code: "model_unsupported" });
});

describe("a softmax written out", () => {
  it("is cut, and computes the same", async () => {
    const { reason, verification } = await splitAndVerify(withWrittenOutSoftmax((_, scores) => scores));
    expect(reason).toBe("");
    expect(verification).toMatchObject({ passed: true, greedy_equal: true });
  });

  it("is kept whole where other numbers are summed", async () => {
    const doubled = withWrittenOutSoftmax((g, scores) => g.add("Mul", [scores, g.float(2)]));
    const { reason, verification } = await splitAndVerify(doubled);
    expect(reason).toMatch(/a softmax on its way/);
    expect(verification).toMatchObject({ passed: true, max_abs_logit_diff: 0 });
  });
});

describe("kept whole", () => {
  it.each<[string, Step, RegExp]>([
    [
      "integers read on another grid",
      (g, x) => g.add("DequantizeLinear", [quantised(g, x), g.float(0.06), grid(g).zero]),
      /integers that mean something else/,
    ],
    ["rows rounded by a scale for each column", perColumn, /more than one scale/],
    [
      "integers scaled as other rows are",
      (g, x) => {
        const [, scale, zero] = g.addMany(
          "DynamicQuantizeLinear",
          [g.add("Mul", [x, g.float(3)])],
          {},
          ["a", "b", "c"].map(named),
        );
        const [rounded] = g.addMany("DynamicQuantizeLinear", [x], {}, ["r", "s", "z"].map(named));
        return g.add(`${MS}MatMulIntegerToFloat`, [rounded!, integers(g), scale!, g.float(0.01), zero!]);
      },
      /scaled in an unknown way/,
    ],
  ])("%s", async (_, afterMlp, reason) => {
    const outcome = await splitAndVerify(tinyDecoder({ afterMlp }));
    expect(outcome.reason).toMatch(reason);
    expect(outcome.verification).toMatchObject({ passed: true, max_abs_logit_diff: 0 });
  });
});

/** As ONNX Runtime writes it for types that it has no kernel for; `summed` gives the scores whose exponentials are summed. */
function withWrittenOutSoftmax(summed: (g: GraphBuilder, scores: string) => string): OnnxModel {
  return rewritten("Softmax", (g, { inputs: [scores], outputs }) => {
    const shifted = g.add("Sub", [scores!, g.add("ReduceMax", [scores!, g.ints([-1])])]);
    const total = g.add("ReduceSum", [g.add("Exp", [summed(g, shifted)]), g.ints([-1])]);
    g.add("Div", [g.add("Exp", [shifted]), total], {}, outputs[0]);
  });
}

/** The decoder with other nodes where it had those of one operator. */
function rewritten(opType: string, write: (g: GraphBuilder, node: GraphNode) => void): OnnxModel {
  const model = tinyDecoder();
  model.graph.nodes = model.graph.nodes.flatMap((node, at) => {
    if (node.opType !== opType) return [node];
    const g = new GraphBuilder(`rewritten${at}.`);
    write(g, node);
    for (const [name, tensor] of g.initializers) model.graph.initializers.set(name, tensor);
    return g.nodes;
  });
  return model;
}

function flat(step: (g: GraphBuilder, rows: string) => string): Step {
  return (g, x) => {
    const rows = g.add("Reshape", [x, g.ints([-1, hidden])]);
    return g.add("Reshape", [step(g, rows), g.ints([1, -1, hidden])]);
  };
}

function fusedProduct(attributes: Parameters<GraphBuilder["add"]>[2]): Step {
  return (g, x) => {
    const product = g.add(`${MS}FusedMatMul`, [x, floats(g, 8)], attributes);
    return g.add("Reshape", [product, g.ints([1, -1, hidden])]);
  };
}

function floats(g: GraphBuilder, seed: number): string {
  return g.floats(numbers(seed, hidden * hidden, 0.5), [hidden, hidden]);
}

/** On no step of it does a number lie so near to an edge that the last bit decides. */
const SCALE = 0.043;

function onGrid(zero: number, integer: "uint8" | "int8"): Step {
  return (g, x) => {
    const operands = [g.float(SCALE), zeroOf(g, integer, zero)];
    return g.add("DequantizeLinear", [g.add("QuantizeLinear", [x, ...operands]), ...operands]);
  };
}

function perColumn(g: GraphBuilder, x: string): string {
  const scales = g.floats(numbers(13, hidden).map((each) => 0.05 + Math.abs(each) / 50));
  const zeros = g.bytes("uint8", new Uint8Array(hidden).fill(128), [hidden]);
  const stored = g.add("QuantizeLinear", [x, scales, zeros], { axis: 2 });
  return g.add("DequantizeLinear", [stored, scales, zeros], { axis: 2 });
}

function grid(g: GraphBuilder): { scale: string; zero: string } {
  return { scale: g.float(SCALE), zero: zeroOf(g, "uint8", 128) };
}

function quantised(g: GraphBuilder, x: string): string {
  const { scale, zero } = grid(g);
  return g.add("QuantizeLinear", [x, scale, zero]);
}

function dequantised(g: GraphBuilder, x: string): string {
  const { scale, zero } = grid(g);
  return g.add("DequantizeLinear", [x, scale, zero]);
}

function qLinear(g: GraphBuilder, x: string): string {
  const { scale, zero } = grid(g);
  return g.add("QLinearMatMul", [x, scale, zero, integers(g), g.float(0.01), zeroOf(g, "int8", 0), scale, zero]);
}

function integers(g: GraphBuilder): string {
  const values = Int8Array.from(numbers(10, hidden * hidden), (each) => Math.round(each * 60));
  return g.bytes("int8", new Uint8Array(values.buffer), [hidden, hidden]);
}

function zeroOf(g: GraphBuilder, dtype: "int8" | "uint8", value: number): string {
  return g.bytes(dtype, Uint8Array.of(value), []);
}

/** MatMulNBits over the rows twice side by side: two blocks of 16, and which of them each column belongs to, if not in order. */
function grouped(block: ((column: number) => number) | null): Step {
  return (g, x) => {
    const wide = g.add("Concat", [x, x], { axis: 2 });
    const packed = g.bytes(
      "uint8",
      Uint8Array.from(numbers(14, hidden * 16), (each) => 128 + each * 127),
      [hidden, 2, 8],
    );
    const scales = g.floats(numbers(15, hidden * 2, 0.05), [hidden, 2]);
    const attributes = { K: 2 * hidden, N: hidden, bits: 4, block_size: 16, accuracy_level: 4 };
    const operands = [wide, packed, scales];
    if (block === null) return g.add(`${MS}MatMulNBits`, operands, attributes);
    const index = Int32Array.from({ length: 2 * hidden }, (_, column) => block(column));
    const groups = g.bytes("int32", new Uint8Array(index.buffer), [2 * hidden]);
    return g.add(`${MS}MatMulNBits`, [...operands, "", groups], attributes);
  };
}

let made = 0;
function named(label: string): string {
  return `${label}${made++}`;
}
