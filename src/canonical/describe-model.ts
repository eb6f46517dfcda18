import type { OnnxModel } from "../onnx/model.ts";
import type { CanonicalModel } from "./canonicalise.ts";
import { gateOf } from "./fold-routing.ts";
import type { Weight } from "./weights.ts";

/** Which program wrote the file, as far as the file says. For people; nothing depends on it. */
export function describeExporter({ producer, graph, opsets }: OnnxModel): string {
  const opset = opsets.get("") ?? 0;
  if (producer === "pytorch" || producer.startsWith("pytorch ")) {
    const scoped = graph.nodes.some((node) => node.outputs.some((output) => output.startsWith("/")));
    return scoped ? `optimum (TorchScript), opset ${opset}` : `torch.onnx dynamo, opset ${opset}`;
  }
  if (producer.startsWith("onnx.quantize")) return `transformers.js (${producer}), opset ${opset}`;
  return `${producer === "" ? "unnamed exporter" : producer}, opset ${opset}`;
}

/** The precision of the projections: "fp32", "int4", "int8 dynamic" or "int8 static" (rows rounded too), joined by "+" when layers differ. */
export function describePrecision({ program }: CanonicalModel): string {
  const found = new Set<string>();
  for (const { op, inputs, attributes, weights } of program.nodes) {
    if (op !== "linear") continue;
    const stored = attributes.bits === undefined ? floatName(weights["weight"]!) : `int${attributes.bits}`;
    const onGrid = program.node(inputs[0]!).op === "rounded";
    found.add(`${stored}${attributes.dynamic === true ? " dynamic" : onGrid ? " static" : ""}`);
  }
  return [...found].toSorted().join("+");
}

function floatName({ tensor }: Weight): string {
  const quantised: Record<string, string> = { int4: "int4", uint4: "int4", int8: "int8", uint8: "int8" };
  if (quantised[tensor.dtype] !== undefined) return quantised[tensor.dtype]!;
  return (
    { float32: "fp32", float16: "fp16", bfloat16: "bf16", float64: "fp64" }[tensor.dtype as string] ?? tensor.dtype
  );
}

/** What was recognised and how, in sentences for people. */
export function describeFindings({ program, cores }: CanonicalModel): string[] {
  const core = program.node(cores[0]!).attributes.core!;
  const rotations = new Set(
    program.nodes.flatMap(({ attributes }) =>
      attributes.rotary === undefined ? [] : [describeRotary(attributes.rotary)],
    ),
  );
  const windows = new Set(cores.map((id) => program.node(id).attributes.core!.window));
  return [
    `${cores.length} attention cores: ${core.heads} query heads over ${core.kvHeads} key-value heads of ${core.headSize}`,
    ...[...rotations].map((text) => `rotary embedding: ${text}`),
    ...describeAdapter(program),
    ...(core.alibiSlopes === null ? [] : ["ALiBi slopes"]),
    ...(core.sinks === null ? [] : ["attention sinks"]),
    ...(core.softcap === null ? [] : [`attention softcap ${core.softcap}`]),
    ...[...windows].flatMap((window) => (window === null ? [] : [`sliding window of ${window} keys`])),
    ...describeExperts(program),
  ];
}

function describeAdapter({ nodes }: CanonicalModel["program"]): string[] {
  const ranks = nodes.flatMap(({ weights }) => (weights["down"] === undefined ? [] : [weights["down"].dims[1]!]));
  if (ranks.length === 0) return [];
  const rank = [...new Set(ranks)].toSorted((a, b) => a - b).join(", ");
  return [`LoRA of rank ${rank} on ${ranks.length} projections, kept apart: the blocks are the base model's`];
}

function describeExperts(program: CanonicalModel["program"]): string[] {
  const { nodes } = program;
  const found = nodes.flatMap(({ op, inputs, attributes }) => {
    if (op === "experts")
      return [`experts in one ${attributes.operator!.opType} operator: each sequence runs by itself`];
    if (op !== "mixture") return [];
    const share = nodes[gateOf(program, inputs[0]!)!.gate]!;
    const spread = nodes[share.inputs[0]!]!;
    return [`${spread.width} experts, of which each token takes ${nodes[spread.inputs.at(-1)!]!.width}`];
  });
  return [...new Set(found)];
}

function describeRotary({
  dim,
  interleaved,
  frequencies,
}: NonNullable<CanonicalModel["program"]["nodes"][number]["attributes"]["rotary"]>): string {
  const source = {
    theta: () => `base ${frequencies.kind === "theta" ? frequencies.theta : 0}`,
    list: () => "a list of frequencies",
    table: () => "a table of cosines",
  }[frequencies.kind]();
  return `${dim} elements per head, ${interleaved ? "interleaved pairs" : "halves"}, ${source}`;
}
