import type { GraphNode } from "../onnx/model.ts";
import { fused, inRows, maskFinding, part } from "./lift-fused-attention.ts";
import { linear, vectorOperation } from "./lift-linear.ts";
import { formAt, knownAt, optionalKnown, optionalValue, weightAt, type Lift, type Lifter } from "./lifter.ts";
import { floatAttribute, intAttribute, listAttribute } from "./movement.ts";
import { count, Unliftable, type Form, type Known, type Present, type Value } from "./value.ts";

/**
 * com.microsoft.MultiHeadAttention: separate q, k, v rows (or keys and values as [1, heads, T, size] that hold the past
 * already), past and present beside it or outside.
 */
export const liftMultiHeadAttention: Lift = (lifter, node) => {
  const heads = intAttribute(node, "num_heads", 0);
  const [q, k, v] = [0, 1, 2].map((input) => formAt(lifter, node, input)) as [Form, Form, Form];
  if (optionalValue(lifter, node, 3) !== null)
    throw new Unliftable(node.name, "MultiHeadAttention with a bias of its own");
  const { past, sequence } = lifter.probe;
  const withPast = optionalValue(lifter, node, 6) !== null;
  const size = q.dims[2]! / heads;
  const keys = withPast ? sequence : past + sequence;
  const headsFirst = k.dims.length === 4;
  const valueSize = headsFirst ? v.dims[3]! : v.dims[2]! / heads;
  const at = (width: number) =>
    headsFirst ? (head: number, t: number, d: number) => (head * keys + t) * width + d : inRows(heads, width);
  const mask = maskFinding(lifter, node, {
    heads,
    bias: optionalKnown(lifter, node, 5),
    causal: intAttribute(node, "unidirectional", 0) === 1,
  });
  return fused(lifter, node, {
    operands: [
      { form: q, heads, size, at: inRows(heads, size) },
      { form: k, heads, size, at: at(size) },
      { form: v, heads, size: valueSize, at: at(valueSize) },
    ],
    ...(withPast ? { pastInputs: [6, 7] as [number, number] } : {}),
    spec: { scale: floatAttribute(node, "scale", 0) || 1 / Math.sqrt(size), softcap: null, ...mask, sinks: null },
    dims: [1, sequence, heads * valueSize],
  });
};

/** com.microsoft.Attention: projects q, k and v itself; one past input [2, 1, heads, past, size] holds keys and values. */
export const liftContribAttention: Lift = (lifter, node) => {
  const heads = intAttribute(node, "num_heads", 0);
  const x = formAt(lifter, node, 0);
  const weight = weightAt(lifter, node, 1);
  if (optionalValue(lifter, node, 4) === null)
    throw new Unliftable(node.name, "com.microsoft.Attention without a past: the graph cannot continue a sequence", {
      broken: true,
    });
  if (intAttribute(node, "do_rotary", 0) === 1 || listAttribute(node, "qkv_hidden_sizes") !== null)
    throw new Unliftable(node.name, "com.microsoft.Attention with rotary embedding or other sizes");
  requireAllVisible(lifter, node, optionalKnown(lifter, node, 3));
  const width = weight.dims[1]!;
  const projected = linear(lifter, node, { x, weights: { weight }, width });
  const packed =
    optionalValue(lifter, node, 2) === null
      ? projected
      : vectorOperation(lifter, node, { x: projected, operand: knownAt(lifter, node, 2), operation: "Add" });
  const size = width / 3 / heads;
  const operand = (which: number) => ({
    form: part(lifter, packed, { start: which * heads * size, heads, size }),
    heads,
    size,
    at: inRows(heads, size),
  });
  const mask = maskFinding(lifter, node, {
    heads,
    bias: optionalKnown(lifter, node, 5),
    causal: intAttribute(node, "unidirectional", 0) === 1,
  });
  const [output, key] = fused(lifter, node, {
    operands: [operand(0), operand(1), operand(2)],
    pastInputs: [4, 4],
    spec: { scale: floatAttribute(node, "scale", 0) || 1 / Math.sqrt(size), softcap: null, ...mask, sinks: null },
    dims: [1, lifter.probe.sequence, heads * size],
  }) as [Value, Present];
  return [output, { ...key, dims: [2, ...key.dims] }];
};

/** A mask over keys, or their count: with nothing padded it says nothing. */
function requireAllVisible(lifter: Lifter, node: GraphNode, mask: Known | null): void {
  if (mask === null) return;
  const total = lifter.probe.past + lifter.probe.sequence;
  const visible = count(mask.dims) === 1 ? mask.read()[0] === total : mask.read().every((each) => each !== 0);
  if (!visible) throw new Unliftable(node.name, "a mask that hides tokens where nothing is padded");
}
