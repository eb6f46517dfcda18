import type { GraphNode, OnnxGraph, TensorInfo } from "../onnx/model.ts";
import { readTensor, toNumbers } from "../onnx/tensor-data.ts";
import { knownElementwise } from "./known-elementwise.ts";
import { knownOperator } from "./known-operators.ts";
import { LIFTS } from "./lifts.ts";
import { type Lifter } from "./lifter.ts";
import { joinSources, moveForms } from "./form.ts";
import { intAttribute, isMovement, movements, positive } from "./movement.ts";
import { tableByPosition } from "./lift-linear.ts";
import { joinSinks, withoutSinks } from "./lift-softmax.ts";
import { requireIntegers, requireTruth } from "./lift-router.ts";
import { withSelection } from "./selection.ts";
import { describeUse } from "./trace.ts";
import { count, known, lazyKnown, Unliftable, type Form, type Known, type Quantised, type Value } from "./value.ts";
import { reshapeWeight, transposeWeight, wholeWeight } from "./weights.ts";

/** Follows every node that `wanted` depends on, in order, filling `lifter.values`. */
export function walkGraph(lifter: Lifter, graph: OnnxGraph, wanted: string[]): void {
  for (const [name, tensor] of graph.initializers) lifter.values.set(name, constant(tensor));
  const nodes = neededNodes(graph, wanted);
  requireGiven(lifter, nodes);
  for (const node of nodes) {
    const outputs = evaluate(lifter, node);
    node.outputs.forEach((name, i) => {
      if (name !== "" && outputs[i] !== undefined) lifter.values.set(name, outputs[i]);
    });
  }
}

/** A node that takes what nothing gives is of a file that no runtime loads. */
function requireGiven(lifter: Lifter, nodes: GraphNode[]): void {
  const given = new Set(nodes.flatMap(({ outputs }) => outputs));
  for (const { name: node, opType, inputs } of nodes) {
    const missing = inputs.find((name) => name !== "" && !given.has(name) && !lifter.values.has(name));
    if (missing !== undefined)
      throw new Unliftable(node, `${opType} takes ${missing}, which nothing gives`, { broken: true });
  }
}

/** Float vectors among the file's constants, short enough to be inverse frequencies. */
export function constantVectors(graph: OnnxGraph): Float32Array[] {
  const branches = graph.nodes.flatMap(({ attributes }) =>
    [...attributes.values()].flatMap((each) => (each.kind === "graph" ? [each.value] : [])),
  );
  const tensors = [...graph.initializers.values(), ...graph.nodes.flatMap((node) => constantTensor(node) ?? [])];
  const own = tensors
    .filter(({ dtype, dims }) => FLOATS.has(dtype) && count(dims) >= 2 && count(dims) <= 512)
    .map((tensor) => Float32Array.from(toNumbers(readTensor(tensor), tensor.dtype)));
  return [...own, ...branches.flatMap(constantVectors)];
}

const FLOATS = new Set(["float32", "float16", "bfloat16"]);

function evaluate(lifter: Lifter, node: GraphNode): Value[] {
  const inputs = node.inputs.map((name) => (name === "" ? null : (lifter.values.get(name) ?? null)));
  return withSelection(node, inputs, follow(lifter, node, inputs));
}

function follow(lifter: Lifter, node: GraphNode, inputs: (Value | null)[]): Value[] {
  const tensor = constantTensor(node);
  if (tensor !== null) return [constant(tensor)];
  if (node.opType === "If") return takeBranch(lifter, node);
  if (node.opType === "Shape" || node.opType === "Size") return [shapeOf(node, inputs[0]!)];
  if (node.opType === "ConstantOfShape") return [filled(node, inputs[0]!)];
  if (node.opType === "Cast" || node.opType === "CastLike") return [cast(lifter, node, inputs[0]!)];
  if (node.opType === "IsNaN" && inputs[0]!.kind === "probabilities") return [inputs[0]!];
  const moved = move(lifter, node, inputs);
  if (moved !== null) return moved;
  if (inputs.every((input) => input === null || input.kind === "known")) {
    const result = evaluateKnown(lifter, node, inputs);
    if (result !== null) return [result];
  }
  const lift = LIFTS[node.domain === "com.microsoft" ? `com.microsoft.${node.opType}` : node.opType];
  if (lift === undefined)
    throw new Unliftable(
      node.name,
      `operator ${node.domain === "" ? "" : `${node.domain}.`}${node.opType} is not one whose meaning for a row is known`,
    );
  lifter.uses.push(describeUse(node, inputs));
  return lift(lifter, node);
}

function evaluateKnown(lifter: Lifter, node: GraphNode, inputs: (Value | null)[]): Known | null {
  const operands = inputs as (Known | null)[];
  const present = operands.filter((operand) => operand !== null);
  const result = knownElementwise(node, present) ?? knownOperator(node, operands);
  if (result !== null && node.opType === "Gather")
    return { ...result, table: tableByPosition(lifter, operands[0]!, operands[1]!) };
  return result;
}

/** Moving operators work alike on numbers and on rows; on a whole weight, only its view changes. */
function move(lifter: Lifter, node: GraphNode, inputs: (Value | null)[]): Value[] | null {
  const data = node.opType === "Concat" ? inputs : inputs.slice(0, 1);
  if (data.some((value) => value === null)) return null;
  const parameters = (input: number): Known | null => {
    const value = inputs[input] ?? null;
    if (value !== null && value.kind !== "known")
      throw new Unliftable(node.name, `${node.opType} with a shape that depends on the text`);
    return value;
  };
  const [first] = data as [Value];
  if (node.opType === "Concat" && first.kind === "scores") return [joinSinks(node, first, data)];
  if (first.kind === "quantised" && first.grid !== undefined) return moveIntegers(node, first, parameters);
  if (first.kind === "scores" || first.kind === "probabilities") return reshapedScores(node, first, parameters);
  if (first.kind === "known" && data.length === 1) return moveKnown(node, first, parameters);
  const moved = movements(
    node,
    data.map((value) => value!.dims),
    parameters,
  );
  if (moved === null) return null;
  if (data.every((value) => value!.kind === "known"))
    return moved.map(({ dims, from, input }) =>
      lazyKnown(dims, first.kind === "known" ? first.type : "float", () => pick(data as Known[], from, input)),
    );
  if (first.kind === "present") return moved[0]!.from === null && node.opType === "Identity" ? [first] : null;
  if (!data.every((value) => value!.kind === "form"))
    throw new Unliftable(node.name, `${node.opType} joins rows with constants`);
  const forms = data.length === 1 ? (data as Form[]) : joinSources(lifter.program, data as Form[]);
  return moved.map((movement) => moveForms(forms, movement));
}

function moveIntegers(node: GraphNode, value: Quantised, parameters: (input: number) => Known | null): Value[] | null {
  const moved = movements(node, [value.dims], parameters);
  return moved?.map((movement) => ({ ...value, dims: movement.dims, rows: moveForms([value.rows], movement) })) ?? null;
}

function pick(data: Known[], from: Int32Array | null, input: Uint16Array | null): Float64Array {
  const arrays = data.map((each) => each.read());
  return from === null
    ? arrays[0]!
    : Float64Array.from(from, (index, i) => arrays[input === null ? 0 : input[i]!]![index]!);
}

function moveKnown(node: GraphNode, value: Known, parameters: (input: number) => Known | null): Value[] | null {
  const { weight } = value;
  if (!isMovement(node)) return null;
  if (weight !== null && count(value.dims) > LARGE_WEIGHT) {
    if (node.opType === "Transpose" && value.dims.length === 2)
      return [{ ...value, dims: value.dims.toReversed(), weight: transposeWeight(weight), read: unreadable(node) }];
    if (node.opType !== "Identity" && node.opType !== "Reshape")
      throw new Unliftable(node.name, `${node.opType} of a large weight`);
  }
  const moved = movements(node, [value.dims], parameters);
  if (moved === null) return null;
  return moved.map(({ dims, from, input }) => {
    const result: Known = lazyKnown(dims, value.type, () => pick([value], from, input));
    if (weight !== null && from === null) return { ...result, weight: reshapeWeight(weight, dims) };
    if (weight !== null && node.opType === "Transpose" && dims.length === 2)
      return { ...result, weight: transposeWeight(weight) };
    // A position table's rows stay rows of that table while only axes of length 1 come and go.
    return { ...result, table: from === null ? value.table : null };
  });
}

/** Elements above which a weight is only ever described, never read while lifting. */
const LARGE_WEIGHT = 4_194_304;

function unreadable(node: GraphNode): () => Float64Array {
  return () => {
    throw new Unliftable(node.name, "arithmetic on a large weight");
  };
}

function reshapedScores(node: GraphNode, value: Value, parameters: (input: number) => Known | null): Value[] | null {
  const moved = movements(node, [value.dims], parameters);
  if (moved === null) return null;
  const [{ dims, from }] = moved as [NonNullable<typeof moved>[number]];
  if (node.opType === "Slice" && value.kind === "probabilities") return [withoutSinks(node, value, { dims, from })];
  const tail = (all: number[]): string => all.slice(-2).join();
  if (from !== null || tail(dims) !== tail(value.dims))
    throw new Unliftable(node.name, `${node.opType} of attention scores`);
  return [{ ...value, dims }];
}

function constant(tensor: TensorInfo): Known {
  const type =
    tensor.dtype === "bool"
      ? "bool"
      : tensor.dtype.startsWith("float") || tensor.dtype === "bfloat16"
        ? "float"
        : "int";
  const value = lazyKnown(tensor.dims, type, () => {
    if (count(tensor.dims) > LARGE_WEIGHT) throw new Unliftable(tensor.name, "arithmetic on a large weight");
    return toNumbers(readTensor(tensor), tensor.dtype);
  });
  return type === "bool" ? value : { ...value, weight: wholeWeight(tensor) };
}

function constantTensor(node: GraphNode): TensorInfo | null {
  if (node.opType !== "Constant") return null;
  for (const [name, attribute] of node.attributes) {
    if (attribute.kind === "tensor") return attribute.value;
    if (name === "value_int" || name === "value_ints")
      return numbers(
        node,
        attribute.kind === "int" ? [attribute.value] : attribute.kind === "ints" ? attribute.value : [],
        { scalar: name === "value_int", dtype: "int64" },
      );
    if (name === "value_float" || name === "value_floats")
      return numbers(
        node,
        attribute.kind === "float" ? [attribute.value] : attribute.kind === "floats" ? attribute.value : [],
        { scalar: name === "value_float", dtype: "float32" },
      );
  }
  throw new Unliftable(node.name, "a Constant without a value");
}

function numbers(
  node: GraphNode,
  values: number[],
  { scalar, dtype }: { scalar: boolean; dtype: "int64" | "float32" },
): TensorInfo {
  const bytes =
    dtype === "float32"
      ? new Uint8Array(Float32Array.from(values).buffer)
      : new Uint8Array(BigInt64Array.from(values.map((value) => BigInt(value))).buffer);
  return { name: node.outputs[0]!, dtype, dims: scalar ? [] : [values.length], data: { kind: "bytes", bytes } };
}

function shapeOf(node: GraphNode, value: Value): Known {
  if (node.opType === "Size") return known([], "int", Float64Array.of(count(value.dims)));
  const rank = value.dims.length;
  const start = positive(intAttribute(node, "start", 0), rank);
  const end = positive(intAttribute(node, "end", rank), rank);
  const dims = value.dims.slice(start, end);
  return known([dims.length], "int", Float64Array.from(dims));
}

function filled(node: GraphNode, shape: Value): Known {
  if (shape.kind !== "known") throw new Unliftable(node.name, "ConstantOfShape with a shape that depends on the text");
  const attribute = node.attributes.get("value");
  const tensor = attribute?.kind === "tensor" ? attribute.value : null;
  const value = tensor === null ? 0 : toNumbers(readTensor(tensor), tensor.dtype)[0]!;
  const type = tensor === null || tensor.dtype.startsWith("float") ? "float" : tensor.dtype === "bool" ? "bool" : "int";
  const dims = Array.from(shape.read());
  return lazyKnown(dims, type, () => new Float64Array(count(dims)).fill(value));
}

const FLOAT_TYPES = new Set([1, 10, 11, 16]);
const BOOL_TYPE = 9;
const INTEGER_TYPES = new Set([2, 3, 4, 5, 6, 7, 12, 13]);

/** Between float types nothing changes: rows are float32 throughout, weights keep their stored type. */
function cast(lifter: Lifter, node: GraphNode, value: Value): Value {
  const to = intAttribute(node, "to", 1);
  if (value.kind === "form" && to === BOOL_TYPE) requireTruth(lifter, node, value);
  if (value.kind === "form" && INTEGER_TYPES.has(to)) requireIntegers(lifter, node, value);
  if (value.kind !== "known") return value;
  if (FLOAT_TYPES.has(to)) return { ...value, type: "float" };
  if (to === BOOL_TYPE)
    return { ...lazyKnown(value.dims, "bool", () => value.read().map((each) => Number(each !== 0))), weight: null };
  return lazyKnown(value.dims, "int", () => value.read().map(Math.trunc));
}

function takeBranch(lifter: Lifter, node: GraphNode): Value[] {
  const condition = lifter.values.get(node.inputs[0]!);
  if (condition?.kind !== "known") throw new Unliftable(node.name, "If with a condition that depends on the text");
  const branch = node.attributes.get(condition.read()[0] !== 0 ? "then_branch" : "else_branch");
  if (branch?.kind !== "graph") throw new Unliftable(node.name, "If without its branch");
  const names = branch.value.outputs.map((output) => output.name);
  walkGraph(lifter, branch.value, names);
  return names.map((name) => lifter.values.get(name)!);
}

/** Nodes that the wanted values depend on, each after the nodes it depends on (files need not be sorted). */
function neededNodes(graph: OnnxGraph, wanted: string[]): GraphNode[] {
  const producer = new Map<string, GraphNode>();
  for (const node of graph.nodes) for (const output of node.outputs) if (output !== "") producer.set(output, node);
  const sorted: GraphNode[] = [];
  const state = new Map<GraphNode, "open" | "done">();
  const stack = wanted.flatMap((name) => producer.get(name) ?? []).toReversed();
  while (stack.length > 0) {
    const node = stack.at(-1)!;
    if (state.get(node) === "done") {
      stack.pop();
      continue;
    }
    const waiting = dependencies(node)
      .flatMap((name) => producer.get(name) ?? [])
      .filter((each) => state.get(each) !== "done");
    if (waiting.length === 0) {
      state.set(node, "done");
      sorted.push(node);
      stack.pop();
    } else {
      if (state.get(node) === "open" && waiting.some((each) => state.get(each) === "open"))
        throw new Unliftable(node.name, "the graph has a cycle");
      state.set(node, "open");
      stack.push(...waiting);
    }
  }
  return sorted;
}

/** Inputs, and for If also what its branches take from outside (optimum names a branch's results like those of the If). */
function dependencies(node: GraphNode): string[] {
  const inner: string[] = [];
  for (const attribute of node.attributes.values()) {
    if (attribute.kind !== "graph") continue;
    const { nodes, outputs, initializers } = attribute.value;
    // A branch may give its own values the names that they have outside.
    const own = new Set([...initializers.keys(), ...nodes.flatMap((each) => each.outputs)]);
    const taken = [...nodes.flatMap(dependencies), ...outputs.map(({ name }) => name)];
    inner.push(...taken.filter((name) => !own.has(name)));
  }
  return [...node.inputs, ...inner].filter((name) => name !== "");
}
