import type { RowProgram } from "../canonical/rows.ts";
import type { Weight } from "../canonical/weights.ts";
import type { GraphNode, OnnxModel, TensorInfo, ValueInfo } from "../onnx/model.ts";
import { ownModel } from "../onnx/own-model.ts";
import type { Port, PortName } from "./block.ts";
import type { CutBlock, CutPart } from "./cut-model.ts";
import { emitMixture, findExperts } from "./emit-experts.ts";
import { emitNode } from "./emit-node.ts";
import type { EmittedFactors, Emitter } from "./emitter.ts";
import { orderPart } from "./order-part.ts";

/** A part as an ONNX graph whose weights have names but no place yet. */
export interface EmittedPart {
  role: CutPart["role"];
  /** `initializers` holds the small constants of the graph; weights join it once stored. */
  model: OnnxModel;
  inputs: Port[];
  outputs: Port[];
  weights: Map<string, Weight>;
  factors: EmittedFactors[];
}

/** Writes one part of a block as an ONNX graph over rows [1, N, width] with the names of its ports. */
export function emitPart(program: RowProgram, block: CutBlock, part: CutPart): EmittedPart {
  const emitter: Emitter = {
    nodes: [],
    constants: new Map(),
    weights: new Map(),
    counts: new Map(),
    factors: [],
    tableByVocabulary: block.kind === "head",
  };
  const names = new Map<number, string>(Array.from(part.inputs, ([id, port]) => [id, port]));
  const portOf = new Map(part.outputs.map(({ node, port }) => [node, port]));
  const used = new Set<PortName>(part.inputs.values());
  const ordered = orderPart(program, part);
  const experts = findExperts(program, ordered, part);
  const inside = new Set(
    [...experts.values()].flat().flatMap(({ term, inner }) => [term, ...inner.map(({ id }) => id)]),
  );
  for (const { id, inputs } of ordered) {
    if (inside.has(id)) continue;
    const terms = experts.get(id);
    if (terms !== undefined) {
      names.set(id, emitMixture(emitter, program, { id, terms, names, output: portOf.get(id) ?? null }));
      continue;
    }
    const node = program.node(id);
    if (node.op === "rotary") (["cos", "sin"] as const).forEach((port) => used.add(port));
    if (node.op === "embed" && inputs.length === 0) used.add("positions");
    const output = emitNode(
      emitter,
      { ...node, inputs },
      {
        inputs: inputs.map((input) => names.get(input)!),
        widths: inputs.map((input) => program.width(input)),
        output: portOf.get(id) ?? null,
      },
    );
    names.set(id, output);
  }
  for (const { node, port } of part.outputs)
    if (names.get(node) !== port) emitter.nodes.push(identity(names.get(node)!, port));
  const inputs = PORT_ORDER.filter((port) => used.has(port)).map((name) => ({
    name,
    width: portWidth(program, { name, part, block }),
  }));
  const outputs = part.outputs.map(({ port, node }) => ({ name: port, width: program.width(node) }));
  const { weights, factors } = emitter;
  return { role: part.role, model: toModel(emitter, inputs, outputs), inputs, outputs, weights, factors };
}

const PORT_ORDER: PortName[] = ["ids", "positions", "hidden", "o", "cos", "sin"];

function portWidth(
  program: RowProgram,
  { name, part, block }: { name: PortName; part: CutPart; block: CutBlock },
): number {
  if (name === "ids" || name === "positions") return 1;
  if (name === "cos" || name === "sin") return block.rotary!.attributes.rotary!.dim / 2;
  const [id] = Array.from(part.inputs).find(([, port]) => port === name)!;
  return program.width(id);
}

function toModel(emitter: Emitter, inputs: Port[], outputs: Port[]): OnnxModel {
  return ownModel({
    name: "part",
    nodes: emitter.nodes,
    initializers: emitter.constants,
    inputs: inputs.map(valueInfo),
    outputs: outputs.map(valueInfo),
  });
}

function valueInfo({ name, width }: Port): ValueInfo {
  const ids = name === "ids" || name === "positions";
  return { name, dtype: ids ? "int64" : "float32", dims: ids ? [1, "N"] : [1, "N", width] };
}

function identity(from: string, to: string): GraphNode {
  return { name: to, opType: "Identity", domain: "", inputs: [from], outputs: [to], attributes: new Map() };
}

/** Adds the stored weights to the graph as initializers; `place` says under which digest each lies. */
export function withWeights(part: EmittedPart, tensorOf: (name: string, weight: Weight) => TensorInfo): OnnxModel {
  const initializers = new Map(part.model.graph.initializers);
  for (const [name, weight] of part.weights) initializers.set(name, tensorOf(name, weight));
  return { ...part.model, graph: { ...part.model.graph, initializers } };
}
