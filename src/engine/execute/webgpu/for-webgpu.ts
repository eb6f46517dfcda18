import type { GraphNode, OnnxModel } from "../../../onnx/model.ts";

/** Operators of stored graphs for which ONNX Runtime 1.30 has a WebGPU kernel: each was loaded with the CPU shut out. */
const ON_DEVICE = new Set(
  `MatMul Gemm RMSNormalization SimplifiedLayerNormalization LayerNormalization Softmax ReduceMean RotaryEmbedding
  com.microsoft:MatMulNBits com.microsoft:MatMulBnb4 com.microsoft:QMoE Gather com.microsoft:GatherBlockQuantized
  Reshape Transpose Slice Split Concat Unsqueeze Squeeze Expand Identity Constant Cast Where Equal Less Greater
  LessOrEqual GreaterOrEqual And Or Not Add Sub Mul Div Neg Abs Pow Sqrt Reciprocal Exp Log Max Min Clip Sigmoid Tanh Erf
  Relu LeakyRelu Elu Softplus Mish Swish Gelu com.microsoft:Gelu com.microsoft:FastGelu com.microsoft:QuickGelu Sin
  Cos`.split(/\s+/),
);

/** The same function in operators that have WebGPU kernels, as far as that can be said. */
export function forWebgpu(model: OnnxModel): OnnxModel {
  const nodes = model.graph.nodes.flatMap((one) => (name(one) === "com.microsoft:FusedMatMul" ? apart(one) : [one]));
  return { ...model, graph: { ...model.graph, nodes } };
}

/** Operators of the rewritten graph that the device has no kernel for. */
export function withoutKernel(model: OnnxModel): string[] {
  if (model.functions.size > 0) return [...model.functions.keys()];
  return [...new Set(forWebgpu(model).graph.nodes.map(name))].filter((operator) => !ON_DEVICE.has(operator));
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
  const plain = { domain: "", attributes: new Map() };
  return [
    {
      ...plain,
      name: transposed,
      opType: "Transpose",
      inputs: [inputs[1]!],
      outputs: [transposed],
      attributes: new Map([["perm", { kind: "ints", value: [1, 0] }]]),
    },
    { ...plain, name: node.name, opType: "MatMul", inputs: [inputs[0]!, transposed], outputs },
  ];
}

function name({ domain, opType }: GraphNode): string {
  return domain === "" ? opType : `${domain}:${opType}`;
}
