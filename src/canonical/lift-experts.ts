import { formOfRows, rowsOf, shapeOnly } from "./form.ts";
import { formAt, optionalValue, weightAt, type Lift } from "./lifter.ts";
import { count, Unliftable } from "./value.ts";
import type { Weight } from "./weights.ts";
import { writeOutExperts } from "./write-out-experts.ts";

/**
 * com.microsoft.MoE and QMoE: routing and experts in one operator that treats each token by itself. MoE becomes the
 * mixture that it computes; any other is kept as it is: its kernel's last bits depend on how many tokens chose an
 * expert, so the engine never runs two sequences through it at once.
 */
export const liftExperts: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const router = formAt(lifter, node, 1);
  const width = x.dims.at(-1)!;
  const weights: Record<string, Weight> = {};
  for (let input = 2; input < node.inputs.length; input++) {
    if (optionalValue(lifter, node, input) !== null) weights[`input${input}`] = weightAt(lifter, node, input);
  }
  if (lifter.probe.shapesOnly) return [shapeOnly(x.dims)];
  const [rows, choices] = [rowsOf(lifter.program, x, node), rowsOf(lifter.program, router, node)];
  if (rows.width !== width || count(router.dims) !== choices.width * rows.tokens.length)
    throw new Unliftable(node.name, `${node.opType} with a router that is not one row per token`);
  const mixture = writeOutExperts(lifter.program, { node, x: rows.node, router: choices.node, weights });
  if (mixture !== null) return [formOfRows(lifter.program, mixture, rows.tokens, x.dims)];
  const operator = {
    domain: node.domain,
    opType: node.opType,
    attributes: [...node.attributes].toSorted(([a], [b]) => (a < b ? -1 : 1)),
  };
  const id = lifter.program.add({
    op: "experts",
    inputs: [rows.node, choices.node],
    width,
    attributes: { operator },
    weights,
  });
  return [formOfRows(lifter.program, id, rows.tokens, x.dims)];
};
