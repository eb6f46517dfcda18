import type { GraphNode } from "../onnx/model.ts";
import { moveForms } from "./form.ts";
import { rowsWithRows } from "./lift-elementwise.ts";
import { lastAxis } from "./lift-router.ts";
import { totalOf } from "./lift-softmax.ts";
import { formAt, optionalKnown, valueOf, type Lift } from "./lifter.ts";
import { axesOf, gatherMovement, intAttribute, keep } from "./movement.ts";
import { Unliftable, type Form } from "./value.ts";

/** ReduceSum over the columns of a row, or over the parts that lie side by side in it. */
export const liftReduceSum: Lift = (lifter, node) => {
  const given = valueOf(lifter, node, 0);
  const axes = axesOf(node, optionalKnown(lifter, node, 1), given.dims.length);
  if (given.kind === "exponentials") return [totalOf(node, given, axes)];
  const x = formAt(lifter, node, 0);
  if (axes?.length !== 1) throw new Unliftable(node.name, "ReduceSum over other than one axis");
  const [axis] = axes as [number];
  const keeps = intAttribute(node, "keepdims", 1) === 1;
  const dims = x.dims.flatMap((dim, i) => (i === axis ? (keeps ? [1] : []) : [dim]));
  const sum =
    axis === x.dims.length - 1
      ? lastAxis(lifter, node, x, { op: "sum", size: 1, attributes: {} })
      : sumOfParts(x, axis, (a, b) => rowsWithRows(lifter, { ...node, opType: "Add" } satisfies GraphNode, a, b));
  return [moveForms([sum], keep(dims))];
};

function sumOfParts(x: Form, axis: number, add: (a: Form, b: Form) => Form): Form {
  const parts = Array.from({ length: x.dims[axis]! }, (_, i) => moveForms([x], gatherMovement(x.dims, [], [i], axis)));
  return parts.reduce(add);
}
