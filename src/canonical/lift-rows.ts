import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, inTokenOrder, rowsOf, scaleForm, shapeOnly } from "./form.ts";
import type { Lifter } from "./lifter.ts";
import type { Form } from "./value.ts";

/** A function of each number of rows, kept by name in the row program. */
export function unary(lifter: Lifter, node: GraphNode, x: Form, name: string = node.opType): Form {
  if (lifter.probe.shapesOnly) return shapeOnly(x.dims);
  return tokensFirst(lifter, [x], ([ordered]) => {
    const view = rowsOf(lifter.program, ordered!, node);
    const id = lifter.program.add({
      op: "unary",
      inputs: [view.node],
      width: view.width,
      attributes: { function: name },
      weights: {},
    });
    return formOfRows(lifter.program, id, view.tokens, ordered!.dims);
  });
}

export function tokensFirst(lifter: Lifter, forms: Form[], compute: (ordered: Form[]) => Form): Form {
  return inTokenOrder(lifter.program, { forms, sequence: lifter.probe.sequence }, compute);
}

export function addScalar(lifter: Lifter, node: GraphNode, x: Form, value: number): Form {
  return withScalar(lifter, { ...node, opType: "Add" }, x, value);
}

/** Rows and one number: scaling is only noted, everything else becomes a node. */
export function withScalar(lifter: Lifter, node: GraphNode, x: Form, value: number): Form {
  if (node.opType === "Mul") return scaleForm(x, value);
  if (node.opType === "Div") return scaleForm(x, 1 / value);
  if (node.opType === "Add" && value === 0) return x;
  if (node.opType === "Sub") return withScalar(lifter, { ...node, opType: "Add" }, x, -value);
  if (lifter.probe.shapesOnly) return shapeOnly(x.dims);
  return tokensFirst(lifter, [x], ([ordered]) => {
    const view = rowsOf(lifter.program, ordered!, node);
    const id = lifter.program.add({
      op: "scalar",
      inputs: [view.node],
      width: view.width,
      attributes: { function: node.opType, value },
      weights: {},
    });
    return formOfRows(lifter.program, id, view.tokens, ordered!.dims);
  });
}
