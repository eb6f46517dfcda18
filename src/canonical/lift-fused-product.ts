import { moveForms, scaleForm } from "./form.ts";
import { closeAttention, scoresOf } from "./lift-attention.ts";
import { liftMatMul } from "./lift-linear.ts";
import { scaleScores } from "./lift-scores.ts";
import { valueOf, type Lift } from "./lifter.ts";
import { floatAttribute, transposition } from "./movement.ts";
import type { GraphNode } from "../onnx/model.ts";
import { turnedAxes } from "./known-operators.ts";
import { Unliftable, type Form } from "./value.ts";

/** com.microsoft.FusedMatMul: a MatMul that turns its operands and scales the product, as ONNX Runtime's optimiser writes it. */
export const liftFusedMatMul: Lift = (lifter, node) => {
  const [left, right] = [valueOf(lifter, node, 0), valueOf(lifter, node, 1)];
  const alpha = floatAttribute(node, "alpha", 1);
  if (right.kind !== "form") return liftMatMul(lifter, node);
  const turnedRight = turned(node, right, 1);
  if (left.kind === "form") return [scaleScores(scoresOf(node, turned(node, left, 0), turnedRight), alpha)];
  if (left.kind !== "probabilities" || turnedAxes(node, 0, left.dims.length) !== null)
    throw new Unliftable(node.name, `${node.opType} of ${left.kind} values`);
  return [scaleForm(closeAttention(lifter, node, left, turnedRight), alpha)];
};

function turned(node: GraphNode, form: Form, input: 0 | 1): Form {
  const order = turnedAxes(node, input, form.dims.length);
  return order === null ? form : moveForms([form], transposition(form.dims, order));
}
