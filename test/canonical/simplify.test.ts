import { describe, expect, it } from "vitest";

import { RowProgram, type RowNode } from "../../src/canonical/rows.ts";
import { simplify } from "../../src/canonical/simplify.ts";
import { computedWeight } from "../../src/canonical/weights.ts";
import { numbers } from "./graph-builder.ts";

const WIDTH = 8;

/** Builds rows by name and gives what is left of the last after simplifying. */
class Rows {
  readonly program = new RowProgram();

  add = (op: RowNode["op"], inputs: number[], options: Options = {}): number => {
    const { width = this.program.width(inputs[0]!), weights = {}, ...attributes } = options;
    return this.program.add({ op, inputs, width, attributes, weights });
  };

  readonly x = this.add("core", [], { width: WIDTH });

  unary = (x: number, name: string): number => this.add("unary", [x], { function: name });

  scalar = (x: number, name: string, value: number): number => this.add("scalar", [x], { function: name, value });

  binary = (a: number, name: string, b: number): number => {
    const width = Math.max(this.program.width(a), this.program.width(b));
    return this.add("binary", [a, b], { function: name, width });
  };

  vector = (x: number, name: string, length = WIDTH): number => {
    const operand = computedWeight(numbers(3, length), [length], "float32");
    return this.add("vector", [x], { function: name, weights: { operand } });
  };

  /** "op function|kind weights" of every node that `output` still needs after simplifying, inputs first. */
  left(output: number): string[] {
    const { program, ids } = simplify(this.program, [output]);
    const needed = new Set([ids.get(output)!]);
    for (const id of needed) for (const input of program.node(id).inputs) needed.add(input);
    return [...needed]
      .toSorted((a, b) => a - b)
      .map((id) => {
        const { op, attributes, weights } = program.node(id);
        return [op, attributes.function ?? attributes.kind, ...Object.keys(weights)].filter(Boolean).join(" ");
      });
  }
}

type Options = RowNode["attributes"] & { width?: number; weights?: RowNode["weights"] };

describe("activations written out", () => {
  it.each<[string, (rows: Rows) => number]>([
    ["x·σ(x)", ({ x, unary, binary }) => binary(x, "Mul", unary(x, "Sigmoid"))],
    ["σ(x)·x", ({ x, unary, binary }) => binary(unary(x, "Sigmoid"), "Mul", x)],
  ])("SiLU: %s", (_, build) => {
    const rows = new Rows();
    expect(rows.left(build(rows))).toEqual(["core", "unary Silu"]);
  });

  const erf = ({ x, unary, scalar }: Rows): number => scalar(unary(scalar(x, "Mul", Math.SQRT1_2), "Erf"), "Add", 1);
  const tanh = ({ x, unary, scalar, binary }: Rows): number => {
    const cubic = binary(x, "Add", scalar(scalar(x, "Pow", 3), "Mul", 0.044715));
    return scalar(unary(scalar(cubic, "Mul", Math.sqrt(2 / Math.PI)), "Tanh"), "Add", 1);
  };

  const cubed = ({ x, unary, scalar, binary }: Rows): number => {
    const cubic = binary(x, "Add", scalar(binary(binary(x, "Mul", x), "Mul", x), "Mul", 0.044715));
    return scalar(unary(scalar(cubic, "Mul", Math.sqrt(2 / Math.PI)), "Tanh"), "Add", 1);
  };
  const bloom = ({ x, unary, scalar, binary }: Rows, factor: number): number => {
    const series = scalar(binary(scalar(x, "Mul", factor), "Mul", x), "Add", 1);
    const angle = binary(scalar(x, "Mul", Math.sqrt(2 / Math.PI)), "Mul", series);
    return binary(scalar(unary(angle, "Tanh"), "Add", 1), "Mul", scalar(x, "Mul", 0.5));
  };

  it.each<[string, string, (rows: Rows) => number]>([
    ["½·(x·(1 + erf))", "Gelu", (rows) => rows.scalar(rows.binary(rows.x, "Mul", erf(rows)), "Mul", 0.5)],
    ["(½·x)·(1 + erf)", "Gelu", (rows) => rows.binary(rows.scalar(rows.x, "Mul", 0.5), "Mul", erf(rows))],
    ["(1 + tanh)·(½·x)", "GeluTanh", (rows) => rows.binary(tanh(rows), "Mul", rows.scalar(rows.x, "Mul", 0.5))],
    ["½·(x·(1 + tanh))", "GeluTanh", (rows) => rows.scalar(rows.binary(rows.x, "Mul", tanh(rows)), "Mul", 0.5)],
    ["x·(½·(1 + erf))", "Gelu", (rows) => rows.binary(rows.x, "Mul", rows.scalar(erf(rows), "Mul", 0.5))],
    ["(x·(1 + tanh))·½, x·x·x", "GeluTanh", (rows) => rows.scalar(rows.binary(rows.x, "Mul", cubed(rows)), "Mul", 0.5)],
    ["(1 + tanh(√(2/π)·x·(1 + …·x·x)))·(½·x)", "GeluTanh", (rows) => bloom(rows, 0.044715)],
  ])("GELU: %s is %s", (_, name, build) => {
    const rows = new Rows();
    expect(rows.left(build(rows))).toEqual(["core", `unary ${name}`]);
  });

  it.each<[string, (rows: Rows) => number]>([
    [
      "the gate of another row",
      (rows) => rows.binary(rows.x, "Mul", rows.unary(rows.vector(rows.x, "Add"), "Sigmoid")),
    ],
    [
      "a GELU of x/2 instead of x/√2",
      ({ x, scalar, unary, binary }) =>
        binary(scalar(x, "Mul", 0.5), "Mul", scalar(unary(scalar(x, "Mul", 0.5), "Erf"), "Add", 1)),
    ],
    ["a GELU with another series", (rows) => bloom(rows, 0.05)],
    ["a GELU without its half", (rows) => rows.binary(rows.x, "Mul", erf(rows))],
    [
      "a GELU with another cubic",
      ({ x, scalar, unary, binary }) => {
        const cubic = binary(x, "Add", scalar(scalar(x, "Pow", 3), "Mul", 0.05));
        return binary(
          scalar(x, "Mul", 0.5),
          "Mul",
          scalar(unary(scalar(cubic, "Mul", Math.sqrt(2 / Math.PI)), "Tanh"), "Add", 1),
        );
      },
    ],
  ])("is left as it is: %s", (_, build) => {
    const rows = new Rows();
    const output = build(rows);
    expect(rows.left(output)).toHaveLength(rows.program.nodes.length);
  });
});

it("a GELU stays as it is written where rows are rounded to 8 bits", () => {
  const rows = new Rows();
  const gate = rows.scalar(rows.unary(rows.scalar(rows.x, "Mul", Math.SQRT1_2), "Erf"), "Add", 1);
  const gelu = rows.binary(rows.scalar(rows.x, "Mul", 0.5), "Mul", gate);
  const weight = computedWeight(numbers(3, WIDTH * WIDTH), [WIDTH, WIDTH], "float32");
  const product = rows.add("linear", [gelu], { dynamic: true, weights: { weight } });
  expect(rows.left(product)).toEqual([
    "core",
    "scalar Mul",
    "unary Erf",
    "scalar Add",
    "scalar Mul",
    "binary Mul",
    "linear weight",
  ]);
});

it("a square is a product, however it is written", () => {
  const rows = new Rows();
  expect(rows.left(rows.scalar(rows.x, "Pow", 2))).toEqual(["core", "binary Mul"]);
});

it("a table of positions begins with the first that a token can have", () => {
  const rows = new Rows();
  const table = computedWeight(numbers(3, 10 * WIDTH), [10, WIDTH], "float32");
  const positions = rows.add("embed", [], { width: WIDTH, offset: 2, weights: { table } });
  const { program, ids } = simplify(rows.program, [positions]);
  const { attributes, weights } = program.node(ids.get(positions)!);
  expect(attributes.offset).toBe(0);
  expect(weights["table"]).toMatchObject({
    dims: [8, WIDTH],
    take: { axis: "rows", ranges: [{ start: 2, length: 8 }] },
  });
});

describe("norms written out", () => {
  const root = ({ scalar, unary, add }: Rows, squared: number, groups = 1): number =>
    unary(scalar(add("mean", [scalar(squared, "Pow", 2)], { groups, width: groups }), "Add", 1e-6), "Sqrt");

  it.each<[string, (rows: Rows) => number]>([
    ["x · 1/√(…)", (rows) => rows.binary(rows.x, "Mul", rows.unary(root(rows, rows.x), "Reciprocal"))],
    ["x / √(…)", (rows) => rows.binary(rows.x, "Div", root(rows, rows.x))],
    ["in groups", (rows) => rows.binary(rows.x, "Div", root(rows, rows.x, 4))],
  ])("RMS norm: %s", (_, build) => {
    const rows = new Rows();
    expect(rows.left(build(rows))).toEqual(["core", "norm rms"]);
  });

  it("a weight and a bias join them", () => {
    const rows = new Rows();
    const rms = rows.vector(rows.binary(rows.x, "Div", root(rows, rows.x)), "Mul");
    expect(rows.left(rms)).toEqual(
      ["core", "norm rms", "norm rms weight"].filter((each) => rows.left(rms).includes(each)),
    );
    expect(rows.left(rms).at(-1)).toBe("norm rms weight");
    const centred = rows.binary(rows.x, "Sub", rows.add("mean", [rows.x], { groups: 1, width: 1 }));
    const layer = rows.vector(rows.vector(rows.binary(centred, "Div", root(rows, centred)), "Mul"), "Add");
    expect(rows.left(layer)).toEqual(["core", "norm layer weight bias"]);
  });

  it.each<[string, (rows: Rows) => number]>([
    ["the spread of another row", (rows) => rows.binary(rows.x, "Div", root(rows, rows.vector(rows.x, "Mul")))],
    ["√(…) / x", (rows) => rows.binary(root(rows, rows.x), "Div", rows.x)],
    ["x · √(…)", (rows) => rows.binary(rows.x, "Mul", root(rows, rows.x))],
    [
      "a fourth power",
      (rows) =>
        rows.binary(
          rows.x,
          "Div",
          rows.unary(
            rows.scalar(rows.add("mean", [rows.scalar(rows.x, "Pow", 4)], { groups: 1, width: 1 }), "Add", 1e-6),
            "Sqrt",
          ),
        ),
    ],
  ])("is no norm: %s", (_, build) => {
    const rows = new Rows();
    expect(rows.left(build(rows)).filter((each) => each.startsWith("norm"))).toEqual([]);
  });

  it("a bias does not join an RMS norm, nor a weight of other groups", () => {
    const rows = new Rows();
    const rms = rows.binary(rows.x, "Div", root(rows, rows.x));
    expect(rows.left(rows.vector(rows.vector(rms, "Mul"), "Add")).at(-1)).toBe("vector Add operand");
    expect(rows.left(rows.vector(rms, "Mul", 4)).at(-1)).toBe("vector Mul operand");
  });
});

describe("columns", () => {
  it("move into the projection that made them", () => {
    const rows = new Rows();
    const weight = computedWeight(numbers(1, WIDTH * 12), [WIDTH, 12], "float32");
    const packed = rows.add("linear", [rows.x], { width: 12, weights: { weight } });
    const biased = rows.vector(packed, "Add", 12);
    const part = rows.add("columns", [biased], { width: 4, columns: [8, 9, 10, 11] });
    const { program } = simplify(rows.program, [part]);
    const linear = program.nodes.filter(({ op, width }) => op === "linear" && width === 4);
    expect(linear.map(({ weights }) => weights["weight"]!.dims)).toEqual([[WIDTH, 4]]);
    expect(program.nodes.some(({ op }) => op === "columns")).toBe(false);
  });

  it("stay where they are after a norm", () => {
    const rows = new Rows();
    const norm = rows.add("norm", [rows.x], { kind: "rms", epsilon: 1e-6, groups: 1 });
    expect(rows.left(rows.add("columns", [norm], { width: 2, columns: [0, 1] })).at(-1)).toBe("columns");
  });
});

describe("a LoRA left in the graph", () => {
  const matrix = (rows: number, columns: number): RowNode["weights"][string] =>
    computedWeight(numbers(7, rows * columns), [rows, columns], "float32");
  const linear = ({ add }: Rows, x: number, [from, to]: [number, number], attributes = {}): number =>
    add("linear", [x], { width: to, weights: { weight: matrix(from, to) }, ...attributes });
  const low = (rows: Rows, rank = 2): number => linear(rows, linear(rows, rows.x, [WIDTH, rank]), [rank, WIDTH]);

  it.each<[string, (rows: Rows) => number]>([
    ["W·x + B·A·x", (rows) => rows.binary(linear(rows, rows.x, [WIDTH, WIDTH]), "Add", low(rows))],
    ["B·A·x + W·x", (rows) => rows.binary(low(rows), "Add", linear(rows, rows.x, [WIDTH, WIDTH]))],
    [
      "W·x + s·B·A·x",
      (rows) => rows.binary(linear(rows, rows.x, [WIDTH, WIDTH]), "Add", rows.scalar(low(rows), "Mul", 2)),
    ],
  ])("%s", (_, build) => {
    const rows = new Rows();
    expect(rows.left(build(rows))).toEqual(["core", "linear weight down up"]);
  });

  it("behind a bias stays before it", () => {
    const rows = new Rows();
    const biased = rows.vector(linear(rows, rows.x, [WIDTH, WIDTH]), "Add");
    expect(rows.left(rows.binary(biased, "Add", low(rows)))).toEqual([
      "core",
      "linear weight down up",
      "vector Add operand",
    ]);
  });

  it("keeps its rank when columns are taken from the sum", () => {
    const rows = new Rows();
    const sum = rows.binary(linear(rows, rows.x, [WIDTH, WIDTH]), "Add", low(rows));
    const { program, ids } = simplify(rows.program, [rows.add("columns", [sum], { width: 3, columns: [1, 2, 5] })]);
    const taken = program.node([...ids.values()].at(-1)!);
    expect([taken.weights["weight"]!.dims, taken.weights["down"]!.dims, taken.weights["up"]!.dims]).toEqual([
      [WIDTH, 3],
      [WIDTH, 2],
      [2, 3],
    ]);
  });

  it.each<[string, (rows: Rows) => number]>([
    [
      "of another row",
      (rows) => rows.binary(linear(rows, rows.unary(rows.x, "Exp"), [WIDTH, WIDTH]), "Add", low(rows)),
    ],
    ["too wide to be low", (rows) => rows.binary(linear(rows, rows.x, [WIDTH, WIDTH]), "Add", low(rows, 5))],
    ["that is subtracted", (rows) => rows.binary(linear(rows, rows.x, [WIDTH, WIDTH]), "Sub", low(rows))],
    [
      "beside rows that are rounded together",
      (rows) => rows.binary(linear(rows, rows.x, [WIDTH, WIDTH], { dynamic: true }), "Add", low(rows)),
    ],
  ])("is none %s", (_, build) => {
    const rows = new Rows();
    expect(rows.left(build(rows)).filter((node) => node.includes("down"))).toEqual([]);
  });
});
