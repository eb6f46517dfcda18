import type { GraphNode, OnnxModel } from "../../../onnx/model.ts";

/** Operators of stored graphs for which ONNX Runtime 1.30 has a WebGPU kernel: each was loaded with the CPU shut out. */
const ON_DEVICE = new Set(
  `MatMul Gemm RMSNormalization SimplifiedLayerNormalization LayerNormalization Softmax ReduceMean RotaryEmbedding
  com.microsoft:MatMulNBits com.microsoft:MatMulBnb4 com.microsoft:QMoE Gather com.microsoft:GatherBlockQuantized
  Reshape Transpose Slice Split Concat Unsqueeze Squeeze Expand Identity Constant Cast Where Equal Less Greater
  LessOrEqual GreaterOrEqual And Or Not Add Sub Mul Div Neg Abs Pow Sqrt Reciprocal Exp Log Max Min Clip Sigmoid Tanh Erf
  Relu LeakyRelu Elu Softplus Mish Swish Gelu com.microsoft:Gelu com.microsoft:FastGelu com.microsoft:QuickGelu Sin
  Cos Shape TopK GatherElements ScatterElements ScatterND ReduceSum`.split(/\s+/),
);

/**
 * What a device does with weights stored as float16. "none": they become float32. "tables": those whose rows are picked
 * stay as they are, rows become float32. "products": they are multiplied as they are, too, and sums are rounded to
 * float16.
 */
export type HalfUse = "none" | "tables" | "products";

/** `computesHalf`: can the device compute with float16 numbers? */
export function halfUse(device: "webgpu" | "webgpu:fp16", computesHalf: boolean): HalfUse {
  if (device === "webgpu:fp16") return "products";
  return computesHalf ? "tables" : "none";
}

const FLOAT32 = 1;
const FLOAT16 = 10;

/** The same function in operators that have WebGPU kernels, as far as that can be said. */
export function forWebgpu(model: OnnxModel, half: HalfUse): OnnxModel {
  const split = model.graph.nodes.flatMap((one) => (name(one) === "com.microsoft:FusedMatMul" ? apart(one) : [one]));
  const wholeTables = half === "none" ? tablesBeforeRows(split, model) : split;
  const nodes = half === "products" ? multiplyHalves(wholeTables, model) : wholeTables;
  return { ...model, graph: { ...model.graph, nodes } };
}

/** Operators of the rewritten graph that the device has no kernel for. */
export function withoutKernel(model: OnnxModel): string[] {
  if (model.functions.size > 0) return [...model.functions.keys()];
  const { nodes } = forWebgpu(model, "none").graph;
  const missing = nodes.map(name).filter((operator) => !ON_DEVICE.has(operator));
  return [...new Set([...missing, ...onWholeNumbers(model)])];
}

/** Ids and positions can pick rows there, but not be computed with. */
function onWholeNumbers({ graph }: OnnxModel): string[] {
  const whole = new Set(graph.inputs.flatMap((input) => (input.dtype === "int64" ? [input.name] : [])));
  return graph.nodes.flatMap((one) => {
    const computes = one.opType !== "Gather" && name(one) !== "com.microsoft:GatherBlockQuantized";
    return computes && one.inputs.some((input) => whole.has(input)) ? [`${one.opType} of whole numbers`] : [];
  });
}

/** x · Wᵀ: the transposed weight is computed once, when the session is made. */
function apart(node: GraphNode): GraphNode[] {
  const { inputs, outputs, attributes } = node;
  const is = (key: string): boolean => {
    const attribute = attributes.get(key);
    return attribute?.kind === "int" && attribute.value === 1;
  };
  const alpha = attributes.get("alpha");
  const scaled = alpha?.kind === "float" && alpha.value !== 1;
  if (!is("transB") || is("transA") || is("transBatchA") || is("transBatchB") || scaled) return [node];
  const transposed = `${inputs[1]!}.transposed`;
  const perm = { kind: "ints" as const, value: [1, 0] };
  return [
    plain("Transpose", [inputs[1]!], transposed, new Map([["perm", perm]])),
    { ...plain("MatMul", [inputs[0]!, transposed], outputs[0]!), name: node.name },
  ];
}

/** Rows of a float16 table are picked on devices that compute with float16 only: the whole table is cast when loaded. */
function tablesBeforeRows(nodes: GraphNode[], model: OnnxModel): GraphNode[] {
  const rowsOf = new Map(nodes.filter((one) => isHalfTable(one, model)).map((one) => [one.outputs[0]!, one]));
  return nodes.flatMap((one) => {
    if (rowsOf.get(one.outputs[0]!) === one) return [];
    const rows = name(one) === "Cast" ? rowsOf.get(one.inputs[0]!) : undefined;
    if (!rows) return [one];
    const table = `${rows.inputs[0]!}.float`;
    return [cast(rows.inputs[0]!, table, FLOAT32), { ...rows, inputs: [table, rows.inputs[1]!], outputs: one.outputs }];
  });
}

/** A Gather from stored float16 values whose rows are cast, and used for nothing else. */
function isHalfTable({ opType, inputs, outputs }: GraphNode, { graph }: OnnxModel): boolean {
  if (opType !== "Gather" || graph.initializers.get(inputs[0]!)?.dtype !== "float16") return false;
  const uses = graph.nodes.filter((other) => other.inputs.includes(outputs[0]!));
  return uses.length > 0 && uses.every((other) => name(other) === "Cast");
}

/** x · float32(W) becomes float32(float16(x) · W), where W is stored as float16. */
function multiplyHalves(nodes: GraphNode[], { graph }: OnnxModel): GraphNode[] {
  const made = new Map(nodes.flatMap((one) => one.outputs.map((output) => [output, one] as const)));
  const halved = new Set<string>();
  const multiplied = nodes.flatMap((one): GraphNode[] => {
    if (name(one) !== "MatMul") return [one];
    const [x, weight] = one.inputs as [string, string];
    const turned = made.get(weight)?.opType === "Transpose" ? made.get(weight)! : null;
    const float = made.get(turned?.inputs[0] ?? weight);
    if (float?.opType !== "Cast" || graph.initializers.get(float.inputs[0]!)?.dtype !== "float16") return [one];
    const stored = turned ? `${weight}.half` : float.inputs[0]!;
    const turn = turned && !halved.has(stored) ? [{ ...turned, inputs: [float.inputs[0]!], outputs: [stored] }] : [];
    const xHalf = `${x}.half`;
    const lower = halved.has(xHalf) ? [] : [cast(x, xHalf, FLOAT16)];
    halved.add(xHalf).add(stored);
    const product = `${one.outputs[0]!}.product`;
    const raise = cast(product, one.outputs[0]!, FLOAT32);
    return [...turn, ...lower, { ...one, inputs: [xHalf, stored], outputs: [product] }, raise];
  });
  return withoutUnused(
    multiplied,
    graph.outputs.map((output) => output.name),
  );
}

/** Casts of weights that nothing multiplies any more. */
function withoutUnused(nodes: GraphNode[], outputs: readonly string[]): GraphNode[] {
  const used = new Set([...outputs, ...nodes.flatMap(({ inputs }) => inputs)]);
  const kept = nodes.filter((one) => one.outputs.some((output) => used.has(output)));
  return kept.length === nodes.length ? nodes : withoutUnused(kept, outputs);
}

function cast(from: string, to: string, type: number): GraphNode {
  return { ...plain("Cast", [from], to, new Map([["to", { kind: "int", value: type }]])), name: `${to}.cast` };
}

function plain(
  opType: string,
  inputs: string[],
  output: string,
  attributes: GraphNode["attributes"] = new Map(),
): GraphNode {
  return { name: output, opType, domain: "", inputs, outputs: [output], attributes };
}

function name({ domain, opType }: GraphNode): string {
  return domain === "" ? opType : `${domain}:${opType}`;
}
