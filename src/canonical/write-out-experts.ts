import type { GraphNode } from "../onnx/model.ts";
import { floatAttribute, intAttribute } from "./movement.ts";
import type { RowNode, RowProgram } from "./rows.ts";
import { reshapeWeight, sliceOfWeight, transposeWeight, type Weight } from "./weights.ts";

/** com.microsoft.MoE: weights by input number, [experts, out, in] and [experts, out]. */
export interface ExpertsOperator {
  node: GraphNode;
  x: number;
  router: number;
  weights: Record<string, Weight>;
}

/**
 * com.microsoft.MoE as what its kernel computes, a mixture of one MLP per expert: the same rows whoever runs beside
 * them, and the same tensors as an export that wrote its experts out. null: not one that is known.
 */
export function writeOutExperts(program: RowProgram, operator: ExpertsOperator): number | null {
  const { node, x, router, weights } = operator;
  const { input2: first, input4: second, input6: third } = weights;
  const activation = node.attributes.get("activation_type");
  const activate = activation?.kind === "string" ? ACTIVATIONS[activation.value] : undefined;
  const known = node.opType === "MoE" && third === undefined && intAttribute(node, "use_sparse_mixer", 0) === 0;
  if (!known || activate === undefined || first?.dims.length !== 3 || second?.dims.length !== 3) return null;
  const [experts, inner, hidden] = first.dims as [number, number, number];
  const width = second.dims[1]!;
  const gated = activation?.kind === "string" && activation.value === "swiglu";
  const fits = second.dims[2] === (gated ? inner / 2 : inner) && hidden === program.width(x);
  if (!fits || program.width(router) !== experts || (gated && intAttribute(node, "swiglu_fusion", 0) !== 1))
    return null;
  const add = adder(program);
  const all = shares(program, operator, experts);
  const terms = Array.from({ length: experts }, (_, expert) => {
    const linear = (from: number, input: number): number => {
      const weight = transposeWeight(sliceOfWeight(weights[`input${input}`]!, expert));
      const product = add("linear", [from], weight.dims[1]!, {}, { weight });
      const bias = weights[`input${input + 1}`];
      if (bias === undefined) return product;
      const operand = reshapeWeight(sliceOfWeight(bias, expert), [weight.dims[1]!]);
      return add("vector", [product], weight.dims[1]!, { function: "Add" }, { operand });
    };
    const value = linear(activate(program, node, linear(x, 2)), 4);
    const share = add("columns", [all], 1, { columns: [expert] });
    return add("binary", [value, share], width, { function: "Mul" });
  });
  return terms.reduce((sum, term) => add("binary", [sum, term], width, { function: "Add" }));
}

/** Each token's shares over all experts: of the softmax over the chosen ones, or over all. */
function shares(program: RowProgram, { node, router }: ExpertsOperator, experts: number): number {
  const add = adder(program);
  const count = intAttribute(node, "k", 1);
  const choice = add("top", [router], count, { groups: 1, count });
  const pick = (from: number): number => add("pick", [from, choice], count, { groups: 1 });
  const chosen =
    intAttribute(node, "normalize_routing_weights", 0) === 1
      ? add("softmax", [pick(router)], count, { groups: 1 })
      : pick(add("softmax", [router], experts, { groups: 1 }));
  return add("spread", [chosen, choice], experts, { groups: 1 });
}

const ACTIVATIONS: Record<string, (program: RowProgram, node: GraphNode, x: number) => number> = {
  identity: (_program, _node, x) => x,
  relu: (program, _node, x) => adder(program)("unary", [x], program.width(x), { function: "Relu" }),
  silu: (program, _node, x) => {
    const gate = adder(program)("unary", [x], program.width(x), { function: "Sigmoid" });
    return adder(program)("binary", [x, gate], program.width(x), { function: "Mul" });
  },
  swiglu: swigluOfPairs,
};

/** min(g, c)·sigmoid(α·min(g, c))·(clip(u, ±c) + β) of columns g and u in turn. */
function swigluOfPairs(program: RowProgram, node: GraphNode, x: number): number {
  const add = adder(program);
  const width = program.width(x) / 2;
  const [alpha, beta] = [floatAttribute(node, "activation_alpha", 1), floatAttribute(node, "activation_beta", 0)];
  const limit = floatAttribute(node, "swiglu_limit", Infinity);
  const scalar = (name: string, from: number, value: number): number =>
    add("scalar", [from], width, { function: name, value });
  const every = (start: number): number =>
    add("columns", [x], width, { columns: Array.from({ length: width }, (_, i) => 2 * i + start) });
  const low = (from: number): number => (limit === Infinity ? from : scalar("Min", from, limit));
  const gate = low(every(0));
  const raised = limit === Infinity ? every(1) : scalar("Max", every(1), -limit);
  const shifted = beta === 0 ? low(raised) : scalar("Add", low(raised), beta);
  const scaled = alpha === 1 ? gate : scalar("Mul", gate, alpha);
  const glu = add("binary", [gate, add("unary", [scaled], width, { function: "Sigmoid" })], width, { function: "Mul" });
  return add("binary", [shifted, glu], width, { function: "Mul" });
}

type Add = (
  op: RowNode["op"],
  inputs: number[],
  width: number,
  attributes: RowNode["attributes"],
  weights?: RowNode["weights"],
) => number;

function adder(program: RowProgram): Add {
  return (op, inputs, width, attributes, weights = {}) => program.add({ op, inputs, width, attributes, weights });
}
