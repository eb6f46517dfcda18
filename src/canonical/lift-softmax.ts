import type { GraphNode } from "../onnx/model.ts";
import { lastAxis } from "./lift-router.ts";
import { optionalKnown, valueOf, type Lift } from "./lifter.ts";
import { axesOf, intAttribute, positive, type Movement } from "./movement.ts";
import {
  count,
  Unliftable,
  type Exponentials,
  type Peak,
  type Probabilities,
  type Scores,
  type Value,
} from "./value.ts";

/** Softmax of attention scores, or of rows (a router). */
export const liftSoftmax: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  const rank = x.dims.length;
  // Before opset 13 the axis was the second one by default, and everything from it on was one row.
  const axis = positive(intAttribute(node, "axis", lifter.opset < 13 ? 1 : -1), rank);
  if (lifter.opset < 13 ? count(x.dims.slice(axis, -1)) !== 1 : axis !== rank - 1)
    throw new Unliftable(node.name, "Softmax over other than the last axis");
  if (x.kind === "form") return [lastAxis(lifter, node, x, { op: "softmax", size: x.dims.at(-1)!, attributes: {} })];
  if (x.kind !== "scores" || x.capped) throw new Unliftable(node.name, `Softmax of ${x.kind} values`);
  return [{ kind: "probabilities", dims: x.dims, scores: x } satisfies Probabilities];
};

/** ReduceMax over the keys: subtracted from the scores again, which a softmax does not notice. */
export const liftPeak: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  const axes = axesOf(node, optionalKnown(lifter, node, 1), x.dims.length);
  const overKeys = axes?.length === 1 && axes[0] === x.dims.length - 1 && intAttribute(node, "keepdims", 1) === 1;
  if (x.kind !== "scores" || !overKeys) throw new Unliftable(node.name, `ReduceMax of ${x.kind} values`);
  return [{ kind: "peak", dims: [...x.dims.slice(0, -1), 1], scores: x } satisfies Peak];
};

/** Exp of attention scores: the first step of a softmax that is written out. */
export function exponentialsOf(node: GraphNode, scores: Scores): Exponentials {
  if (scores.capped) throw new Unliftable(node.name, "Exp of scores within a softcap");
  return { kind: "exponentials", dims: scores.dims, scores };
}

/** Their sum over the keys. */
export function totalOf(node: GraphNode, { kind, dims, scores }: Exponentials, axes: number[] | null): Exponentials {
  const overKeys = axes?.length === 1 && axes[0] === dims.length - 1 && intAttribute(node, "keepdims", 1) === 1;
  if (kind !== "exponentials" || !overKeys) throw new Unliftable(node.name, `${node.opType} of ${kind} values`);
  return { kind: "total", dims: [...dims.slice(0, -1), 1], scores };
}

/** Each through the sum of all. */
export function sharesOf(node: GraphNode, left: Value, right: Value): Probabilities {
  const fits = left.kind === "exponentials" && right.kind === "total" && left.scores === right.scores;
  if (node.opType !== "Div" || !fits) throw new Unliftable(node.name, `${node.opType} of a softmax on its way`);
  return { kind: "probabilities", dims: left.dims, scores: left.scores };
}

/** Concat of scores and one number per head behind the last key: a sink (arXiv 2508.10925). */
export function joinSinks(node: GraphNode, scores: Scores, parts: (Value | null)[]): Scores {
  const [, sinks, ...more] = parts;
  const rank = scores.dims.length;
  const axis = positive(intAttribute(node, "axis", 0), rank);
  const one = sinks?.kind === "known" && sinks.dims.at(-1) === 1 && more.length === 0 && axis === rank - 1;
  if (!one || scores.withSinks === true || scores.capped) throw new Unliftable(node.name, "Concat of attention scores");
  const data = sinks.read();
  const queries = scores.dims.at(-2)!;
  const perHead = Array.from({ length: count(scores.dims.slice(0, -2)) }, (_, head) => data[head * queries]!);
  if (data.length !== perHead.length * queries || data.some((each, i) => each !== perHead[Math.floor(i / queries)]))
    throw new Unliftable(node.name, "sinks that differ from query to query");
  return { ...scores, dims: [...scores.dims.slice(0, -1), scores.dims.at(-1)! + 1], sinks: perHead, withSinks: true };
}

/** Slice that leaves the sinks' column out again. */
export function withoutSinks(
  node: GraphNode,
  value: Probabilities,
  { dims, from }: Pick<Movement, "dims" | "from">,
): Probabilities {
  const total = value.dims.at(-1)!;
  const dropsLast =
    value.scores.withSinks === true &&
    dims.at(-1) === total - 1 &&
    dims.slice(0, -1).join() === value.dims.slice(0, -1).join() &&
    (from === null || from.every((index, i) => index === Math.floor(i / (total - 1)) * total + (i % (total - 1))));
  if (dropsLast) return { ...value, dims, scores: { ...value.scores, dims, withSinks: false } };
  if (from === null || from.every((index, i) => index === i)) return { ...value, dims };
  throw new Unliftable(node.name, "Slice of attention probabilities");
}
