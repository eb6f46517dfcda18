import type { CoreSpec, RotarySpec } from "../../blocks/block.ts";
import { attachFactors } from "../../chain/attach-factors.ts";
import type { BlockChain, ChainPart } from "../../chain/chain.ts";
import { fuseParts } from "../../chain/fuse-parts.ts";
import { packProjections } from "../../chain/pack-projections.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import type { Attribute, GraphNode, OnnxModel } from "../../onnx/model.ts";
import { ownModel } from "../../onnx/own-model.ts";
import { rows } from "./core-model.ts";
import { decodeNodes } from "./decode-core.ts";
import { readPart } from "./read-segment.ts";
import { withRebuiltWeights } from "./rebuilt-weights.ts";
import { stackFactors } from "./stack-factors.ts";

/** Rows in which the one token of a step goes through a chain's parts: twice where kernels take rows in pairs. */
export type SoloRows = 1 | 2;

/**
 * A whole chain as one graph for one new token of one sequence: ids [1, rows], `cos.i` and `sin.i` [1, rows, dim / 2] per
 * rotation, `past_keys.l` and `past_values.l` [1, past, width] to logits [1, rows, vocabulary] and the new
 * rows `keys.l` and `values.l` [1, 1, width]. Every operator gets what it gets part by part, so the bits are the same.
 */
export async function soloGraph(
  chain: BlockChain,
  rotations: readonly RotarySpec[],
  { source, rows: count }: { source: BlockSource; rows: SoloRows },
): Promise<OnnxModel> {
  const parts: OnnxModel[] = [];
  for (const step of chain.steps) {
    if (step.kind === "core")
      parts.push(count === 2 ? onFirstRow(corePart(step.core, step.layer)) : corePart(step.core, step.layer));
    else parts.push(await readTurned(step.part, { rotations, source }));
  }
  return packProjections(fuseParts(parts, (port) => port === "logits" || /^(keys|values)\./.test(port)));
}

/** Whether one query row needs no mask: a window is a matter of which keys are given. */
export function runsSolo({ cores }: BlockChain): boolean {
  return cores.every(({ alibiSlopes, sinks }) => !alibiSlopes && !sinks);
}

async function readTurned(
  part: ChainPart,
  { rotations, source }: { rotations: readonly RotarySpec[]; source: BlockSource },
): Promise<OnnxModel> {
  const plain = await withRebuiltWeights(await readPart(part, source), part, source.blobs);
  // Side by side with nothing, and padded as beside others: the columns need no choice.
  const factors = (await stackFactors([part.factors], source.blobs)).map(({ weight, down, up }) => ({
    weight,
    down,
    up,
  }));
  const model = attachFactors(plain, factors);
  if (part.rotary === null) return model;
  const rotation = rotations.findIndex((each) => JSON.stringify(each) === JSON.stringify(part.rotary));
  return renameInputs(model, new Map(["cos", "sin"].map((port) => [port, `${port}.${rotation}`])));
}

function corePart(core: CoreSpec, layer: number): OnnxModel {
  const widths = { k: core.kvHeads * core.headSize, v: core.kvHeads * core.valueHeadSize };
  const past = { k: `past_keys.${layer}`, v: `past_values.${layer}` };
  const given = { k: `keys.${layer}`, v: `values.${layer}` };
  const join = (half: "k" | "v"): GraphNode => ({
    name: `all_${half}`,
    opType: "Concat",
    domain: "",
    inputs: [past[half], half],
    outputs: [`all_${half}`],
    attributes: new Map([["axis", { kind: "int", value: 1 }]]),
  });
  const give = (half: "k" | "v"): GraphNode => ({
    name: given[half],
    opType: "Identity",
    domain: "",
    inputs: [half],
    outputs: [given[half]],
    attributes: new Map(),
  });
  const { nodes, initializers } = decodeNodes(core, [{ k: "all_k", v: "all_v" }]);
  return ownModel({
    name: "core",
    nodes: [join("k"), join("v"), ...nodes, give("k"), give("v")],
    initializers,
    inputs: [
      rows("q", "N", core.heads * core.headSize),
      rows("k", "N", widths.k),
      rows("v", "N", widths.v),
      rows(past.k, `past.${layer}`, widths.k),
      rows(past.v, `past.${layer}`, widths.v),
    ],
    outputs: [
      rows("o", "N", core.heads * core.valueHeadSize),
      rows(given.k, "N", widths.k),
      rows(given.v, "N", widths.v),
    ],
  });
}

/** The core of a row that came twice: it attends once, and its o rows go on twice. */
function onFirstRow(core: OnnxModel): OnnxModel {
  const first = (port: string): string => (["q", "k", "v", "o"].includes(port) ? `${port}.first` : port);
  const nodes = core.graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(first),
    outputs: node.outputs.map(first),
  }));
  const along = (name: string, value: number): [string, Attribute] => [name, { kind: "int", value }];
  const halves = ["q", "k", "v"].map((port): GraphNode => ({
    name: first(port),
    opType: "Split",
    domain: "",
    inputs: [port],
    outputs: [first(port), `${port}.again`],
    attributes: new Map([along("axis", 1), along("num_outputs", 2)]),
  }));
  const twice: GraphNode = {
    name: "o",
    opType: "Concat",
    domain: "",
    inputs: [first("o"), first("o")],
    outputs: ["o"],
    attributes: new Map([along("axis", 1)]),
  };
  return { ...core, graph: { ...core.graph, nodes: [...halves, ...nodes, twice] } };
}

function renameInputs(model: OnnxModel, names: ReadonlyMap<string, string>): OnnxModel {
  const { graph } = model;
  const rename = (name: string): string => names.get(name) ?? name;
  const nodes = graph.nodes.map((node) => ({ ...node, inputs: node.inputs.map(rename) }));
  const inputs = graph.inputs.map((input) => ({ ...input, name: rename(input.name) }));
  return { ...model, graph: { ...graph, nodes, inputs } };
}
