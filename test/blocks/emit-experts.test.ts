import { describe, expect, it } from "vitest";

import { RowProgram, type RowNode } from "../../src/canonical/rows.ts";
import { computedWeight, type Weight } from "../../src/canonical/weights.ts";
import { numbers } from "../canonical/graph-builder.ts";
import { runPart } from "./run-part.ts";

const [WIDTH, EXPERTS, SLOTS, RANK] = [16, 4, 2, 3];
const SCALE = 0.5;
const ROWS = Array.from({ length: 33 }, (_, token) => Float64Array.from(numbers(token + 1, WIDTH, 2)));

/** Σ share · tanh(x·W + scale · (x·A)·B), the low-rank product in the node of W or written out. */
function mixture(lora: "in the node" | "written out" | "none") {
  const program = new RowProgram();
  const add = (node: Partial<RowNode> & Pick<RowNode, "op" | "inputs" | "width">): number =>
    program.add({ attributes: {}, weights: {}, ...node });
  const hidden = add({ op: "core", inputs: [], width: WIDTH });
  const linear = (input: number, weight: Weight): number =>
    add({ op: "linear", inputs: [input], width: weight.dims[1]!, weights: { weight } });
  const logits = linear(hidden, matrix(1, WIDTH, EXPERTS));
  const choice = add({ op: "top", inputs: [logits], width: SLOTS, attributes: { groups: 1, count: SLOTS } });
  const chosen = add({ op: "pick", inputs: [logits, choice], width: SLOTS, attributes: { groups: 1 } });
  const shares = add({ op: "softmax", inputs: [chosen], width: SLOTS, attributes: { groups: 1 } });
  const all = add({ op: "spread", inputs: [shares, choice], width: EXPERTS, attributes: { groups: 1 } });
  const terms = Array.from({ length: EXPERTS }, (_, expert) => {
    const weight = matrix(10 + expert, WIDTH, WIDTH);
    const [down, up] = [matrix(20 + expert, WIDTH, RANK), matrix(30 + expert, RANK, WIDTH)];
    let product = linear(hidden, weight);
    if (lora === "in the node") {
      const attributes = { adapterScale: SCALE };
      product = add({ op: "linear", inputs: [hidden], width: WIDTH, attributes, weights: { weight, down, up } });
    } else if (lora === "written out") {
      const low = linear(linear(hidden, down), up);
      const attributes = { function: "Mul", value: SCALE };
      const scaled = add({ op: "scalar", inputs: [low], width: WIDTH, attributes });
      product = add({ op: "binary", inputs: [product, scaled], width: WIDTH, attributes: { function: "Add" } });
    }
    const value = add({ op: "unary", inputs: [product], width: WIDTH, attributes: { function: "Tanh" } });
    const gate = add({ op: "columns", inputs: [all], width: 1, attributes: { columns: [expert] } });
    return add({ op: "binary", inputs: [value, gate], width: WIDTH, attributes: { function: "Mul" } });
  });
  const output = add({ op: "mixture", inputs: terms, width: WIDTH });
  const run = async (rows: Float64Array[]): Promise<Float32Array> =>
    await runPart(program, { hidden, output, rows, positions: rows.map((_, token) => token) });
  return { run };
}

function matrix(seed: number, rows: number, columns: number): Weight {
  return computedWeight(numbers(seed, rows * columns, 0.8), [rows, columns], "float32");
}

describe("a mixture of experts", () => {
  it("gives a row the same bits alone, in any batch and at any place in it", async () => {
    const { run } = mixture("none");
    const alone = await Promise.all(ROWS.map(async (row) => await run([row])));
    for (const [first, count] of [
      [0, 33],
      [5, 17],
      [31, 2],
      [7, 8],
    ] as const) {
      const together = await run(ROWS.slice(first, first + count));
      for (let row = 0; row < count; row++)
        expect(together.slice(row * WIDTH, (row + 1) * WIDTH)).toEqual(alone[first + row]);
    }
  });

  it("keeps a LoRA on an expert's projection in the graph, where its rows are", async () => {
    const [folded, written, without] = await Promise.all(
      (["in the node", "written out", "none"] as const).map(async (lora) => await mixture(lora).run(ROWS)),
    );
    folded!.forEach((value, i) => expect(Math.abs(value - written![i]!)).toBeLessThan(1e-5));
    expect(folded!.some((value, i) => Math.abs(value - without![i]!) > 1e-2)).toBe(true);
  });
});
