import { describe, expect, it } from "vitest";

import { roundHalves } from "../../src/canonical/round-halves.ts";
import { RowProgram, type RowNode } from "../../src/canonical/rows.ts";
import { wholeWeight, type Weight } from "../../src/canonical/weights.ts";

const WIDTH = 4;

/** Rows by name: a program of float16 weights unless said otherwise. */
class Rows {
  readonly program = new RowProgram();
  #weights = 0;

  add = (op: RowNode["op"], inputs: number[], options: Partial<RowNode> = {}): number =>
    this.program.add({ op, inputs, width: WIDTH, attributes: {}, weights: {}, ...options });

  readonly x = this.add("core", []);

  weight = (dtype: "float16" | "float32"): Weight => {
    const bytes = new Uint8Array(WIDTH * (dtype === "float16" ? 2 : 4)).fill(this.#weights++);
    return wholeWeight({ name: "", dtype, dims: [WIDTH], data: { kind: "bytes", bytes } });
  };

  product = (x: number, level = 4, dtype: "float16" | "float32" = "float16"): number =>
    this.add("linear", [x], {
      attributes: { bits: 4, blockSize: 32, accuracyLevel: level, inputWidth: WIDTH },
      weights: { weight: this.weight("float32"), scales: this.weight(dtype) },
    });

  norm = (x: number, addsUp: boolean, dtype: "float16" | "float32" = "float16"): number =>
    this.add("norm", [x], {
      attributes: { kind: "rms", epsilon: 1e-6, groups: 1, ...(addsUp ? { addsUp } : {}) },
      weights: { weight: this.weight(dtype) },
    });

  twice = (x: number): number => this.add("scalar", [x], { attributes: { function: "Mul", value: 2 } });

  sum = (a: number, b: number): number => this.add("binary", [a, b], { attributes: { function: "Add" } });

  /** What the output is computed from, as text; ~ is a rounding. */
  rounded(output: number): string {
    const { program, outputs } = roundHalves(this.program, [output]);
    const text = (id: number): string => {
      const { op, inputs, attributes } = program.node(id);
      const operands = inputs.map(text).join(", ");
      if (attributes.function === "Half") return `~${operands}`;
      return op === "core" ? "x" : `${attributes.function ?? op}(${operands})`;
    };
    return text(outputs.get(output)!);
  }
}

describe("float16 rows that are rounded to 8 bits", () => {
  it("go into products and come out of them rounded", () => {
    const rows = new Rows();
    expect(rows.rounded(rows.product(rows.twice(rows.product(rows.x))))).toBe("~linear(~Mul(~linear(~x)))");
  });

  it("are float32 from one operator without a float16 kernel to the next", () => {
    const rows = new Rows();
    const product = rows.product(rows.x);
    expect(rows.rounded(rows.product(rows.twice(rows.twice(product))))).toBe("~linear(~Mul(Mul(~linear(~x))))");
  });

  it("stay float32 in a product that lies alone among those", () => {
    const rows = new Rows();
    const alone = rows.product(rows.twice(rows.product(rows.x)));
    expect(rows.rounded(rows.product(rows.twice(alone)))).toBe("~linear(~Mul(linear(Mul(~linear(~x)))))");
  });

  it("are normalised unrounded by the operator that adds them up, and rounded for every other", () => {
    const rows = new Rows();
    const sum = rows.sum(rows.product(rows.x), rows.twice(rows.x));
    const normed = rows.norm(sum, true);
    expect(rows.rounded(rows.sum(rows.product(normed), sum))).toBe(
      "~Add(~linear(~norm(Add(~linear(~x), ~Mul(~x)))), ~Add(~linear(~x), ~Mul(~x)))",
    );
  });

  it("stay float32 around a norm with float32 weights, which was cast to it", () => {
    const rows = new Rows();
    const sum = rows.sum(rows.norm(rows.x, false, "float32"), rows.twice(rows.x));
    expect(rows.rounded(rows.product(rows.norm(sum, true, "float32")))).toBe("~linear(~norm(Add(norm(~x), Mul(~x))))");
  });
});

it.each<[string, (rows: Rows) => number]>([
  ["float32 rows", ({ x, product }) => product(x, 4, "float32")],
  ["products that do not round them", ({ x, product }) => product(x, 0)],
])("is left as it is: %s", (_, build) => {
  const rows = new Rows();
  expect(roundHalves(rows.program, [build(rows)]).program).toBe(rows.program);
});
