import * as fc from "fast-check";
import { expect, it } from "vitest";

import { gatherMovement, movements, type Movement } from "../../src/canonical/movement.ts";
import { count, Unliftable } from "../../src/canonical/value.ts";
import { floats, int, integers, ints, nodeOf, runNode, type NodeCase } from "./run-node.ts";

const shape = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
const axisOf = (dims: number[]) => fc.integer({ min: -dims.length, max: dims.length - 1 });

/** A node over tensors of these dims; the parameters follow as further inputs. */
interface Case {
  dims: number[][];
  node: Omit<NodeCase, "inputs">;
  parameters?: NodeCase["inputs"];
}

const iota = (length: number, start = 0): number[] => Array.from({ length }, (_, i) => start + i);

/** Every element numbered, so that what ONNX Runtime gives says where it came from. */
async function expectSameAsRuntime({ dims, node, parameters = [] }: Case): Promise<void> {
  const starts = dims.map((_, i) => dims.slice(0, i).reduce((sum, each) => sum + count(each), 0));
  const inputs = [...dims.map((each, i) => floats(iota(count(each), starts[i]), each)), ...parameters];
  const found = movements(nodeOf({ ...node, inputs }), dims, (input) => inputs[input] ?? null)!;
  const expected = await runNode({ ...node, inputs });
  expect(found.map((each) => each.dims)).toEqual(expected.map((each) => each.dims));
  found.forEach((movement, i) => expect(numbersOf(movement, starts)).toEqual(expected[i]!.data));
}

function numbersOf({ dims, from, input }: Movement, starts: number[]): number[] {
  return from === null ? iota(count(dims)) : Array.from(from, (at, i) => starts[input === null ? 0 : input[i]!]! + at);
}

function check(name: string, cases: fc.Arbitrary<Case>, numRuns = 40): void {
  it(`${name}, as the runtime does`, async () => {
    await fc.assert(fc.asyncProperty(cases, expectSameAsRuntime), { numRuns });
  });
}

check(
  "Transpose",
  shape.chain((dims) =>
    fc.option(fc.shuffledSubarray(iota(dims.length), { minLength: dims.length })).map((perm) => ({
      dims: [dims],
      node: { opType: "Transpose", ...(perm === null ? {} : { attributes: { perm: ints(perm) } }) },
    })),
  ),
);

check(
  "Slice, with steps back and bounds beyond the ends",
  shape.chain((dims) =>
    fc
      .subarray(iota(dims.length), { minLength: 1 })
      .chain((axes) => {
        const each = <Value>(value: fc.Arbitrary<Value>) =>
          fc.array(value, { minLength: axes.length, maxLength: axes.length });
        const bound = fc.oneof(fc.integer({ min: -6, max: 6 }), fc.constantFrom(2 ** 31 - 1, -(2 ** 31)));
        return fc.tuple(
          fc.constant(axes),
          each(bound),
          each(bound),
          each(fc.constantFrom(1, 1, 2, 3, -1, -2)),
          fc.boolean(),
        );
      })
      .map(([axes, starts, ends, steps, negative]) => ({
        dims: [dims],
        node: { opType: "Slice" },
        parameters: [starts, ends, axes.map((axis) => (negative ? axis - dims.length : axis)), steps].map((list) =>
          integers(list),
        ),
      })),
  ),
  120,
);

check(
  "Concat",
  shape.chain((dims) =>
    fc
      .tuple(axisOf(dims), fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }))
      .map(([axis, sizes]) => ({
        dims: sizes.map((size) => dims.with(axis, size)),
        node: { opType: "Concat", attributes: { axis: int(axis) } },
      })),
  ),
);

check(
  "Split by sizes",
  shape.chain((dims) =>
    fc
      .tuple(axisOf(dims), fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }))
      .map(([axis, sizes]) => ({
        dims: [
          dims.with(
            axis,
            sizes.reduce((a, b) => a + b),
          ),
        ],
        node: { opType: "Split", attributes: { axis: int(axis) }, outputs: sizes.length },
        parameters: [integers(sizes)],
      })),
  ),
);

check(
  "Split into parts, the last one smaller",
  shape.chain((dims) =>
    fc
      .tuple(axisOf(dims), fc.integer({ min: 1, max: 3 }))
      .filter(([axis, parts]) => Math.ceil(dims.at(axis)! / parts) * (parts - 1) < dims.at(axis)!)
      .map(([axis, parts]) => ({
        dims: [dims],
        node: { opType: "Split", attributes: { axis: int(axis), num_outputs: int(parts) }, outputs: parts },
      })),
  ),
);

check(
  "Expand",
  shape.chain((dims) =>
    fc
      .tuple(
        fc.array(fc.boolean(), { minLength: dims.length, maxLength: dims.length }),
        fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
      )
      .map(([ones, lead]) => ({
        dims: [dims.map((dim, axis) => (ones[axis] ? 1 : dim))],
        node: { opType: "Expand" },
        parameters: [integers([...lead, ...dims])],
      })),
  ),
);

check(
  "Expand with ones in its target",
  shape.map((dims) => ({ dims: [dims], node: { opType: "Expand" }, parameters: [integers(dims.map(() => 1))] })),
);

check(
  "Tile",
  shape.chain((dims) =>
    fc.array(fc.integer({ min: 1, max: 3 }), { minLength: dims.length, maxLength: dims.length }).map((repeats) => ({
      dims: [dims],
      node: { opType: "Tile" },
      parameters: [integers(repeats)],
    })),
  ),
);

check(
  "Reshape with a 0 and a −1",
  shape.chain((dims) =>
    fc.tuple(fc.nat(dims.length - 1), fc.boolean()).map(([open, copy]) => ({
      dims: [dims],
      node: { opType: "Reshape" },
      parameters: [integers(dims.map((dim, axis) => (axis === open ? -1 : copy ? 0 : dim)))],
    })),
  ),
);

check(
  "Squeeze, Unsqueeze, Flatten, Identity",
  shape.chain((dims) =>
    fc.constantFrom<Case>(
      { dims: [[1, ...dims, 1]], node: { opType: "Squeeze" }, parameters: [integers([0, -1])] },
      { dims: [dims], node: { opType: "Squeeze" } },
      { dims: [dims], node: { opType: "Unsqueeze" }, parameters: [integers([0, -1])] },
      { dims: [dims], node: { opType: "Unsqueeze" }, parameters: [integers([1])] },
      { dims: [dims], node: { opType: "Flatten", attributes: { axis: int(dims.length - 1) } } },
      { dims: [dims], node: { opType: "Flatten", attributes: { axis: int(-1) } } },
      { dims: [dims], node: { opType: "Identity" } },
    ),
  ),
);

it("Gather, with indices of any rank counted from either end", async () => {
  const cases = shape.chain((dims) =>
    axisOf(dims).chain((axis) => {
      const size = dims.at(axis)!;
      const index = fc.integer({ min: -size, max: size - 1 });
      return fc.tuple(
        fc.constant({ dims, axis }),
        fc.constantFrom<number[]>([], [3], [2, 2], [1]),
        fc.array(index, { minLength: 4, maxLength: 4 }),
      );
    }),
  );
  await fc.assert(
    fc.asyncProperty(cases, async ([{ dims, axis }, indexDims, list]) => {
      const indices = list.slice(0, count(indexDims));
      const [expected] = await runNode({
        opType: "Gather",
        inputs: [floats(iota(count(dims)), dims), integers(indices, indexDims)],
        attributes: { axis: int(axis) },
      });
      const found = gatherMovement(dims, indexDims, indices, axis < 0 ? axis + dims.length : axis);
      expect(found.dims).toEqual(expected!.dims);
      expect(Array.from(found.from!)).toEqual(expected!.data);
    }),
    { numRuns: 60 },
  );
});

it("what does not fit is refused", () => {
  const refused = (node: Omit<NodeCase, "inputs">, dims: number[], parameter: number[]): void => {
    const inputs = [floats([], dims), integers(parameter)];
    expect(() => movements(nodeOf({ ...node, inputs }), [dims], (input) => inputs[input] ?? null)).toThrow(Unliftable);
  };
  refused({ opType: "Reshape" }, [2, 3], [4, 2]);
  refused({ opType: "Reshape" }, [2, 3], [4, -1]);
  refused({ opType: "Expand" }, [2, 3], [2, 2]);
});
