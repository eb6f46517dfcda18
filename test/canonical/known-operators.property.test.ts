import * as fc from "fast-check";
import { expect, it } from "vitest";

import { knownElementwise } from "../../src/canonical/known-elementwise.ts";
import { knownOperator } from "../../src/canonical/known-operators.ts";
import { count, type Known } from "../../src/canonical/value.ts";
import { bools, floats, int, integers, nodeOf, runNode, type NodeCase } from "./run-node.ts";

const shape = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 });
const small = fc.integer({ min: -9, max: 9 });
const real = fc.integer({ min: -40, max: 40 }).map((each) => each / 8);

const filled = (dims: number[], kind: "int" | "float" | "bool"): fc.Arbitrary<Known> =>
  fc
    .array(kind === "int" ? small : kind === "bool" ? fc.nat(1) : real, {
      minLength: count(dims),
      maxLength: count(dims),
    })
    .map((values) =>
      kind === "int" ? integers(values, dims) : kind === "bool" ? bools(values, dims) : floats(values, dims),
    );

async function expectSameAsRuntime(node: NodeCase): Promise<void> {
  const given = node.inputs.filter((input) => input !== null);
  const found = knownElementwise(nodeOf(node), given) ?? knownOperator(nodeOf(node), node.inputs);
  const [expected] = await runNode(node);
  expect(found!.dims).toEqual(expected!.dims);
  const data = found!.read();
  expected!.data.forEach((value, i) => {
    if (Number.isNaN(value) || !Number.isFinite(value)) expect(data[i]).toBe(value);
    else
      expect(Math.abs(data[i]! - value), `element ${i}: ${data[i]} for ${value}`).toBeLessThanOrEqual(
        2e-6 * Math.max(1, Math.abs(value)),
      );
  });
}

function check(name: string, cases: fc.Arbitrary<NodeCase>, numRuns = 30): void {
  it(`${name}, as the runtime does`, async () => {
    await fc.assert(fc.asyncProperty(cases, expectSameAsRuntime), { numRuns });
  });
}

/** Two operands of which either may be spread. */
const operands = (kind: "int" | "float" | "bool"): fc.Arbitrary<[Known, Known]> =>
  shape.chain((dims) =>
    fc.tuple(
      filled(dims, kind),
      fc
        .constantFrom(
          dims,
          [],
          [dims.at(-1)!],
          dims.map(() => 1),
        )
        .chain((other) => filled(other, kind)),
    ),
  );

for (const opType of ["Add", "Sub", "Mul", "Min", "Max", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]) {
  for (const kind of ["int", "float"] as const)
    check(
      `${opType} of ${kind}s`,
      operands(kind).map((inputs) => ({ opType, inputs })),
      12,
    );
}
for (const opType of ["And", "Or", "Xor"])
  check(
    opType,
    operands("bool").map((inputs) => ({ opType, inputs })),
    12,
  );

check(
  "Div and Mod of integers, negative ones too",
  operands("int").chain(([a, b]) => {
    const divisor = integers(
      Array.from(b.read(), (each) => (each === 0 ? 7 : each)),
      b.dims,
    );
    return fc.constantFrom("Div", "Mod").map((opType) => ({ opType, inputs: [a, divisor] }));
  }),
  60,
);
check(
  "Div of floats, by zero too",
  operands("float").map((inputs) => ({ opType: "Div", inputs })),
);
check(
  "Pow",
  operands("float").map(([a, b]) => ({ opType: "Pow", inputs: [floats(Array.from(a.read(), Math.abs), a.dims), b] })),
);

for (const opType of ["Neg", "Exp", "Cos", "Sin", "Tanh", "Sigmoid", "Relu", "Abs", "Floor", "Ceil", "Sign"]) {
  check(
    opType,
    shape.chain((dims) => filled(dims, "float")).map((x) => ({ opType, inputs: [x] })),
    8,
  );
}
for (const opType of ["Sqrt", "Log", "Reciprocal"]) {
  check(
    opType,
    shape
      .chain((dims) => filled(dims, "float"))
      .map((x) => ({
        opType,
        inputs: [
          floats(
            Array.from(x.read(), (each) => Math.abs(each) + 0.5),
            x.dims,
          ),
        ],
      })),
    8,
  );
}
check(
  "Not",
  shape.chain((dims) => filled(dims, "bool")).map((x) => ({ opType: "Not", inputs: [x] })),
  8,
);

check(
  "Where",
  shape
    .chain((dims) => fc.tuple(filled(dims, "bool"), filled(dims, "float"), filled([], "float")))
    .map((inputs) => ({ opType: "Where", inputs })),
);

check(
  "Range",
  fc.tuple(small, small, fc.constantFrom(1, 2, 3, -1, -2)).map(([start, limit, delta]) => ({
    opType: "Range",
    inputs: [integers([start], []), integers([limit], []), integers([delta], [])],
  })),
);

check(
  "Gather and GatherElements",
  fc
    .tuple(
      fc.constantFrom(0, 1, -1),
      fc.array(fc.integer({ min: -3, max: 2 }), { minLength: 9, maxLength: 9 }),
      filled([3, 3], "float"),
      fc.constantFrom("Gather", "GatherElements"),
    )
    .map(([axis, indices, data, opType]) => ({
      opType,
      inputs: [data, integers(indices, [3, 3])],
      attributes: { axis: int(axis) },
    })),
);

check(
  "GatherND",
  fc
    .tuple(
      fc.constantFrom(1, 2, 3),
      fc.array(fc.integer({ min: -2, max: 1 }), { minLength: 12, maxLength: 12 }),
      filled([2, 2, 2], "float"),
    )
    .map(([depth, indices, data]) => ({ opType: "GatherND", inputs: [data, integers(indices, [12 / depth, depth])] })),
);

check(
  "ScatterND",
  fc
    .tuple(
      fc.shuffledSubarray([0, 1, 2, 3], { minLength: 2, maxLength: 2 }),
      filled([4, 3], "float"),
      filled([2, 3], "float"),
    )
    .map(([rows, data, updates]) => ({ opType: "ScatterND", inputs: [data, integers(rows, [2, 1]), updates] })),
);

check(
  "Trilu",
  fc.tuple(fc.nat(1), fc.integer({ min: -3, max: 3 }), filled([2, 3, 4], "float")).map(([upper, k, data]) => ({
    opType: "Trilu",
    inputs: [data, integers([k], [])],
    attributes: { upper: int(upper) },
  })),
);

check(
  "EyeLike",
  fc.tuple(fc.integer({ min: -3, max: 3 }), filled([3, 4], "float")).map(([k, like]) => ({
    opType: "EyeLike",
    inputs: [like],
    attributes: { k: int(k) },
  })),
);

check(
  "CumSum",
  fc.tuple(fc.integer({ min: -3, max: 2 }), fc.nat(1), filled([2, 3, 4], "int")).map(([axis, exclusive, data]) => ({
    opType: "CumSum",
    inputs: [data, integers([axis], [])],
    attributes: { exclusive: int(exclusive) },
  })),
);

check(
  "NonZero",
  shape.chain((dims) => filled(dims, "int")).map((x) => ({ opType: "NonZero", inputs: [x] })),
);

check(
  "MatMul",
  fc
    .tuple(fc.constantFrom([], [1], [2]), fc.constantFrom([], [1], [2]))

    .chain(([a, b]) => fc.tuple(filled([...a, 2, 3], "float"), filled([...b, 3, 2], "float")))
    .map((inputs) => ({ opType: "MatMul", inputs })),
  40,
);

check(
  "sums, means, products and bounds over axes",
  shape
    .chain((dims) =>
      fc.tuple(
        filled(dims, "float"),
        fc.constantFrom("ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin"),
        fc.option(
          fc.subarray(
            dims.map((_, axis) => axis - dims.length),
            { minLength: 1 },
          ),
        ),
        fc.nat(1),
      ),
    )
    .map(([data, opType, axes, keepdims]) => ({
      opType,
      inputs: axes === null ? [data] : [data, integers(axes)],
      attributes: { keepdims: int(keepdims) },
    })),
  80,
);

it("what is not a known operator is left to others", () => {
  const node = { opType: "MatMulNBits", inputs: [floats([1])] };
  expect(knownOperator(nodeOf(node), node.inputs)).toBeNull();
  expect(knownElementwise(nodeOf(node), node.inputs)).toBeNull();
});
