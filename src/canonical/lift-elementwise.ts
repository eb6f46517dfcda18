import type { GraphNode } from "../onnx/model.ts";
import { formOfRows, moveForms, multiplyForm, rowsOf, sameTokens, scaleForm, shapeOnly, sumOfPicks } from "./form.ts";
import { fillRows } from "./lift-router.ts";
import { tokensFirst, unary, withScalar } from "./lift-rows.ts";
import { multiplyQuantised } from "./lift-quantised.ts";
import { spread } from "./known-elementwise.ts";
import { addToScores, HIDES, hideScores, scaleScores, tanhOfScores } from "./lift-scores.ts";
import { exponentialsOf, sharesOf } from "./lift-softmax.ts";
import { formAt, valueOf, type Lift, type Lifter } from "./lifter.ts";
import { positionRows, vectorOperation } from "./lift-linear.ts";
import { axesOf, broadcastDims, floatAttribute, intAttribute, keep } from "./movement.ts";
import { optionalKnown } from "./lifter.ts";
import { count, scalarOf, Unliftable, type Form, type Known, type Value } from "./value.ts";

/** Functions of one number, kept by name in the row program. */
export const liftUnary: Lift = (lifter, node) => {
  const x = valueOf(lifter, node, 0);
  if (x.kind === "scores" && node.opType === "Tanh") return [tanhOfScores(x)];
  if (x.kind === "scores" && node.opType === "Exp") return [exponentialsOf(node, x)];
  if (node.opType === "Neg" && x.kind === "form") return [scaleForm(x, -1)];
  return [unary(lifter, node, formAt(lifter, node, 0))];
};

/** GELU exactly or by tanh; com.microsoft.FastGelu and BiasGelu add a bias first. */
export const liftGelu: Lift = (lifter, node) => {
  const approximate = node.attributes.get("approximate");
  const tanh = node.opType === "FastGelu" || (approximate?.kind === "string" && approximate.value === "tanh");
  const bias = optionalKnown(lifter, node, 1);
  const x = formAt(lifter, node, 0);
  const biased = bias === null ? x : vectorOperation(lifter, node, { x, operand: bias, operation: "Add" });
  return [unary(lifter, node, biased, tanh ? "GeluTanh" : "Gelu")];
};

/** com.microsoft.QuickGelu: x · sigmoid(α · x), which is SiLU where α is 1. */
export const liftQuickGelu: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const scaled = withScalar(lifter, { ...node, opType: "Mul" }, x, floatAttribute(node, "alpha", 1.702));
  return [rowsWithRows(lifter, { ...node, opType: "Mul" }, x, unary(lifter, node, scaled, "Sigmoid"))];
};

/** Add, Sub, Mul, Div, Pow, Min, Max of rows with rows, numbers or weights; of attention scores with masks and scales. */
export const liftBinary: Lift = (lifter, node) => {
  const left = valueOf(lifter, node, 0);
  const right = valueOf(lifter, node, 1);
  if (left.kind === "quantised" || right.kind === "quantised") return [multiplyQuantised(lifter, node, left, right)];
  if (left.kind === "scores" || right.kind === "scores") return [scoresWith(node, left, right)];
  if (left.kind === "exponentials" || right.kind === "total") return [sharesOf(node, left, right)];
  if (left.kind === "form" && right.kind === "form") return [rowsWithRows(lifter, node, left, right)];
  if (left.kind === "form" && right.kind === "known") return [rowsWithKnown(lifter, node, left, right)];
  if (left.kind === "known" && right.kind === "form") return [knownWithRows(lifter, node, left, right)];
  throw new Unliftable(node.name, `${node.opType} of ${left.kind} and ${right.kind} values`);
};

/** Add, and what else takes two rows. */
export function rowsWithRows(lifter: Lifter, node: GraphNode, left: Form, right: Form): Form {
  const dims = broadcastDims(left.dims, right.dims, node);
  if (node.opType === "Add" || node.opType === "Sub") {
    const sum = sumOfPicks(left, node.opType === "Sub" ? scaleForm(right, -1) : right, dims);
    if (sum !== null) return sum;
  }
  if (lifter.probe.shapesOnly) return shapeOnly(dims);
  return tokensFirst(lifter, [left, right], ([a, b]) => binaryRows(lifter, node, a!, b!));
}

function binaryRows(lifter: Lifter, node: GraphNode, left: Form, right: Form): Form {
  const views = [rowsOf(lifter.program, left, node), rowsOf(lifter.program, right, node)] as const;
  if (!sameTokens(...views)) throw new Unliftable(node.name, `${node.opType} of rows of different tokens`);
  const width = Math.max(views[0].width, views[1].width);
  if (width % views[0].width !== 0 || width % views[1].width !== 0)
    throw new Unliftable(node.name, `${node.opType} of rows of ${views[0].width} and ${views[1].width}`);
  const dims = broadcastDims(left.dims, right.dims, node);
  for (const [view, form] of [
    [views[0], left],
    [views[1], right],
  ] as const) {
    if (view.width !== width && !spreadsOverGroups(form.dims, dims))
      throw new Unliftable(node.name, `${node.opType} repeats a row of ${view.width} over ${width}`);
  }
  const id = lifter.program.add({
    op: "binary",
    inputs: [views[0].node, views[1].node],
    width,
    attributes: { function: node.opType },
    weights: {},
  });
  return formOfRows(lifter.program, id, views[0].tokens, dims);
}

/** A narrower row must hold one number for each run of the wider one (…, A, 1), never repeat as a whole or in between. */
function spreadsOverGroups(narrow: number[], dims: number[]): boolean {
  const aligned = [...Array.from({ length: dims.length - narrow.length }, () => 1), ...narrow];
  const last = aligned.findLastIndex((dim) => dim !== 1);
  return aligned.slice(0, last + 1).every((dim, axis) => dim === dims[axis]);
}

function rowsWithKnown(lifter: Lifter, node: GraphNode, x: Form, operand: Known): Form {
  const value = scalarOf(operand);
  const dims = broadcastDims(x.dims, operand.dims, node);
  if (value !== null && count(dims) === count(x.dims))
    return withScalar(lifter, node, moveForms([x], keep(dims)), value);
  if (
    node.opType === "Add" &&
    count(dims) === count(x.dims) &&
    operand.weight === null &&
    operand.table === null &&
    operand.read().every((each) => each === 0)
  )
    return moveForms([x], keep(dims));
  if (operand.table !== null && node.opType === "Add")
    return rowsWithRows(lifter, node, x, positionRows(lifter, node, operand));
  if (count(operand.dims) === x.dims.at(-1) && operand.dims.at(-1) === x.dims.at(-1))
    return vectorOperation(lifter, node, { x, operand, operation: node.opType });
  if (operand.weight !== null && count(operand.dims) > 1 && count(dims) === count(x.dims)) {
    const vector = perToken(lifter, { x, operand, dims });
    if (vector !== null)
      return tokensFirst(lifter, [x], ([ordered]) =>
        vectorOperation(lifter, node, { x: ordered!, operand: vector, operation: node.opType }),
      );
  }
  if (node.opType === "Mul") return multiplyForm(x, operand, dims);
  throw new Unliftable(node.name, `${node.opType} of rows with a constant of dims [${operand.dims.join(", ")}]`);
}

/** A weight with one number per element of a token's row ([heads, 1, size] against heads): in the row's order. */
function perToken(lifter: Lifter, { x, operand, dims }: { x: Form; operand: Known; dims: number[] }): Known | null {
  const width = count(x.dims) / lifter.probe.sequence;
  if (count(operand.dims) !== width || lifter.probe.shapesOnly)
    return lifter.probe.shapesOnly && count(operand.dims) === width ? operand : null;
  const wide = spread(operand, dims);
  const axis = dims.findIndex(
    (dim, i) => dim === lifter.probe.sequence && (operand.dims[i - dims.length + operand.dims.length] ?? 1) === 1,
  );
  if (axis < 0) return null;
  const inner = count(dims.slice(axis + 1));
  const outer = count(dims.slice(0, axis));
  const row = Float64Array.from(
    { length: width },
    (_, i) => wide[Math.floor(i / inner) * inner * dims[axis]! + (i % inner)]!,
  );
  const plain = outer === 1 && operand.weight !== null && row.every((value, i) => value === operand.read()[i]);
  return plain
    ? { ...operand, dims: [width] }
    : { kind: "known", dims: [width], type: "float", read: () => row, weight: null, table: null };
}

function knownWithRows(lifter: Lifter, node: GraphNode, operand: Known, x: Form): Form {
  if (node.opType === "Add" || node.opType === "Mul" || node.opType === "Min" || node.opType === "Max")
    return rowsWithKnown(lifter, node, x, operand);
  const value = scalarOf(operand);
  if (value === null)
    throw new Unliftable(node.name, `${node.opType} of a constant of dims [${operand.dims.join(", ")}] and rows`);
  if (node.opType === "Sub") return withScalar(lifter, { ...node, opType: "Add" }, scaleForm(x, -1), value);
  if (node.opType === "Div") return scaleForm(unary(lifter, node, x, "Reciprocal"), value);
  throw new Unliftable(node.name, `${node.opType} of a number and rows`);
}

/** Clip (opset 11 on: bounds are inputs). */
export const liftClip: Lift = (lifter, node) => {
  const bounds = (["Max", "Min"] as const).map((opType, i) => ({ opType, bound: optionalKnown(lifter, node, i + 1) }));
  return [
    bounds.reduce(
      (x, { opType, bound }) => (bound === null ? x : withScalar(lifter, { ...node, opType }, x, bound.read()[0]!)),
      formAt(lifter, node, 0),
    ),
  ];
};

function scoresWith(node: GraphNode, left: Value, right: Value): Value {
  if (node.opType === "Sub" && left.kind === "scores" && right.kind === "peak" && right.scores === left) return left;
  const scores = left.kind === "scores" ? left : right;
  const other = left.kind === "scores" ? right : left;
  if (scores.kind !== "scores" || other.kind !== "known")
    throw new Unliftable(node.name, `${node.opType} of attention scores and a ${other.kind} value`);
  const value = scalarOf(other);
  if (node.opType === "Mul" && value !== null) return scaleScores(scores, value);
  if (node.opType === "Div" && value !== null && left === scores) return scaleScores(scores, 1 / value);
  if (node.opType === "Add") return addToScores(node, scores, other);
  // OPT keeps masked scores above the lowest float; nothing visible is ever that low.
  if (node.opType === "Max" && value !== null && value <= HIDES) return scores;
  throw new Unliftable(node.name, `${node.opType} on attention scores`);
}

/** Where on scores hides keys; on probabilities it guards rows without any key (never so here: a token sees itself). */
export const liftWhere: Lift = (lifter, node) => {
  const [condition, yes, no] = [0, 1, 2].map((input) => valueOf(lifter, node, input)) as [Value, Value, Value];
  if (no.kind === "probabilities" && condition.kind === "probabilities") return [no];
  if (condition.kind === "form") return [fillRows(lifter, node, { condition, yes, no })];
  if (condition.kind !== "known") throw new Unliftable(node.name, "Where with a condition that depends on the text");
  if (yes.kind === "scores" && no.kind === "known")
    return [hideScores(node, yes, { condition, fill: no, hideWhere: 0 })];
  if (no.kind === "scores" && yes.kind === "known")
    return [hideScores(node, no, { condition, fill: yes, hideWhere: 1 })];
  const chosen = condition.read();
  if (chosen.every((each) => each === chosen[0])) return [chosen[0] !== 0 ? yes : no];
  throw new Unliftable(node.name, `Where over ${yes.kind} and ${no.kind} values`);
};

/** Mean over the last axis (normalisation written out). */
export const liftReduceMean: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const axes = axesOf(node, optionalKnown(lifter, node, 1), x.dims.length);
  if (axes?.length !== 1 || axes[0] !== x.dims.length - 1 || intAttribute(node, "keepdims", 1) !== 1) {
    throw new Unliftable(node.name, "ReduceMean over other than the last axis");
  }
  if (lifter.probe.shapesOnly) return [shapeOnly([...x.dims.slice(0, -1), 1])];
  return [
    tokensFirst(lifter, [x], ([ordered]) => {
      const view = rowsOf(lifter.program, ordered!, node);
      const groups = view.width / ordered!.dims.at(-1)!;
      const id = lifter.program.add({
        op: "mean",
        inputs: [view.node],
        width: groups,
        attributes: { groups },
        weights: {},
      });
      return formOfRows(lifter.program, id, view.tokens, [...ordered!.dims.slice(0, -1), 1]);
    }),
  ];
};
