import type { Digest, TensorEntry } from "../blocks/block.ts";
import { digestBytes, digestDocument } from "../fingerprint/digest.ts";
import type { OnnxModel } from "../onnx/model.ts";
import { readGraphAlone } from "../onnx/read-model.ts";
import { writeModel } from "../onnx/write-model.ts";
import { type BlockChain, type ChainPart, type ChainStep, storedGraph } from "./chain.ts";
import { cutPart, cutPositions } from "./cut-part.ts";
import type { BlockSource } from "./resolve-chain.ts";

/**
 * Bytes of weights that one more runtime session has to save. A call takes 13.5 µs, in which a projection reads 0.33 MB of
 * weights, and a session 0.17 MB by itself (`npm run bench:granularity`); twice that, since calls cost every tenant and
 * bytes only the machine.
 */
export const SESSION_COST = 1 << 20;

/** A part of several models that is cut finer, because they differ in some of its weights only. */
export interface Refinement {
  /** "mlp of layer 3" */
  place: string;
  models: string[];
  /** The weights of each run of nodes, in order. */
  runs: string[][];
  /** Of weights that would be loaded once more for every model that differs in others. */
  saved_bytes: number;
  /** Sessions that the runs take beyond those that the parts took. */
  more_sessions: number;
}

/**
 * Where models differ in some weights of a part and have the others in common, cuts the part so that what they have in
 * common is loaded and run once: at the places where bytes loaded and the cost of sessions are least. What such a model
 * computes stays the same, node by node; what an adapter adds goes with the weights that it adds to.
 */
export async function refineChains(
  chains: BlockChain[],
  source: BlockSource,
  sessionCost = SESSION_COST,
): Promise<{ chains: BlockChain[]; refinements: Refinement[] }> {
  const refinements: Refinement[] = [];
  const cuts = new Map<ChainPart, ChainPart[]>();
  for (const uses of comparableParts(chains)) {
    const structures = await readStructures(uses, source);
    for (const alike of groupBy(uses, ({ part }) => structures.get(part.graph)!.structure)) {
      const { model, structure } = structures.get(alike[0]!.part.graph)!;
      const positions = chooseCuts(model, { uses: alike, sessionCost });
      if (positions.length === 0) continue;
      for (const { part } of alike) cuts.set(part, cutAt(part, positions, { model, structure }));
      refinements.push(describe(alike, cuts));
    }
  }
  if (cuts.size === 0) return { chains, refinements };
  const refine = (step: ChainStep): ChainStep[] =>
    step.kind === "core" ? [step] : (cuts.get(step.part) ?? [step.part]).map((part) => ({ kind: "part", part }));
  const refined = chains.map((chain) => ({ ...chain, steps: chain.steps.flatMap(refine) }));
  return { chains: refined, refinements };
}

type Structures = Map<Digest, { model: OnnxModel; structure: Digest }>;

async function readStructures(uses: PartUse[], source: BlockSource): Promise<Structures> {
  const structures: Structures = new Map();
  for (const { part } of uses) {
    if (structures.has(part.graph)) continue;
    const model = await readGraphAlone(source.blobs.path(storedGraph(part)));
    structures.set(part.graph, { model, structure: structureOf(model) });
  }
  return structures;
}

/** A part where a chain uses it. */
interface PartUse {
  chain: string;
  part: ChainPart;
}

/** Per place and shapes, the uses of parts of which at least two differ and have some weights in common. */
function comparableParts(chains: BlockChain[]): PartUse[][] {
  const uses = chains.flatMap(({ name, steps }) =>
    steps.flatMap((step) => (step.kind === "part" ? [{ chain: name, part: step.part }] : [])),
  );
  const groups = groupBy(uses, ({ part: { label, inputs, outputs, tensors } }) =>
    JSON.stringify([label, inputs, outputs, tensors.map(({ name, dtype, dims }) => [name, dtype, dims])]),
  );
  return groups
    .map((group) => group.filter(({ part }) => group.some((other) => sharesSome(part, other.part))))
    .filter((group) => group.length > 0);
}

function sharesSome(a: ChainPart, b: ChainPart): boolean {
  return a.graph !== b.graph && a.tensors.some(({ digest }, at) => digest === b.tensors[at]!.digest);
}

/** Equal for graphs that differ in nothing but what their weights hold. */
function structureOf(model: OnnxModel): Digest {
  return digestBytes(
    writeModel(model, ({ data }) => (data.kind === "file" ? { location: "-", offset: 0, length: data.length } : null)),
  );
}

/** Where to cut, ascending: the runs between have the least bytes to load and sessions to call, taken together. */
function chooseCuts(model: OnnxModel, { uses, sessionCost }: { uses: PartUse[]; sessionCost: number }): number[] {
  const parts = [...new Map(uses.map(({ part }) => [part.graph, part])).values()];
  const end = model.graph.nodes.length;
  const borders = [0, ...bordersBetweenWeights(model, parts[0]!), end];
  // cheapest[i]: of nodes before borders[i]; came[i]: where its last run begins.
  const cheapest = [0];
  const came = [0];
  for (let to = 1; to < borders.length; to++) {
    const costs = borders
      .slice(0, to)
      .map((from, at) => cheapest[at]! + costOfRun(model, { from, to: borders[to]! }, { parts, sessionCost }));
    const best = costs.indexOf(Math.min(...costs));
    cheapest.push(costs[best]!);
    came.push(best);
  }
  const cuts: number[] = [];
  for (let at = came.at(-1)!; at > 0; at = came[at]!) cuts.unshift(borders[at]!);
  return cuts;
}

/** One border between every two nodes that carry weights, where the fewest elements cross. */
function bordersBetweenWeights({ graph }: OnnxModel, part: ChainPart): number[] {
  const stored = new Set(part.tensors.map(({ name }) => name));
  const carrying = graph.nodes.flatMap(({ inputs }, at) => (inputs.some((name) => stored.has(name)) ? [at] : []));
  const positions = cutPositions({ graph } as OnnxModel, part.inputs);
  return carrying.slice(1).flatMap((next, at) => {
    const between = positions.filter((position) => position.at > carrying[at]! && position.at <= next);
    return between.length === 0 ? [] : [between.reduce((best, each) => (each.width < best.width ? each : best)).at];
  });
}

function costOfRun(
  model: OnnxModel,
  { from, to }: { from: number; to: number },
  { parts, sessionCost }: { parts: ChainPart[]; sessionCost: number },
): number {
  const distinct = new Map(
    parts.map((part) => tensorsOf(model, part, { from, to })).map((tensors) => [keyOf(tensors), tensors]),
  );
  return [...distinct.values()].reduce((sum, tensors) => sum + sessionCost + bytesOf(tensors), 0);
}

function cutAt(
  part: ChainPart,
  positions: number[],
  { model, structure }: { model: OnnxModel; structure: Digest },
): ChainPart[] {
  const borders = [0, ...positions, model.graph.nodes.length];
  const name = part.label.replace(/ of layer \d+/, "");
  const whole = { name, inputs: part.inputs, outputs: part.outputs };
  return borders.slice(1).map((to, at) => {
    const from = borders[at]!;
    const { inputs, outputs, live, model: graph } = cutPart(model, whole, { from, to });
    const tensors = tensorsOf(model, part, { from, to });
    return {
      ...part,
      label: `${part.label}, ${tensors.map((tensor) => tensor.name).join(" and ")}`,
      graph: digestDocument({ structure, name, from, to, tensors: tensors.map(({ digest }) => digest) }),
      graphBytes: writeModel(graph, () => ({ location: "-", offset: 0, length: 0 })).length,
      inputs,
      outputs,
      tensors,
      factors: part.factors.filter(({ weight }) => tensors.some((tensor) => tensor.name === weight)),
      rotary: inputs.some((port) => port.name === "cos") ? part.rotary : null,
      cut: { of: storedGraph(part), from, to, whole, live },
    };
  });
}

function tensorsOf({ graph }: OnnxModel, part: ChainPart, { from, to }: { from: number; to: number }): TensorEntry[] {
  const used = new Set(graph.nodes.slice(from, to).flatMap(({ inputs }) => inputs));
  return part.tensors.filter(({ name }) => used.has(name));
}

function describe(uses: PartUse[], cuts: Map<ChainPart, ChainPart[]>): Refinement {
  const wholes = new Map(uses.map(({ part }) => [part.graph, bytesOf(part.tensors)]));
  const runs = new Map(uses.flatMap(({ part }) => cuts.get(part)!.map((run) => [run.graph, bytesOf(run.tensors)])));
  const sum = (bytes: Map<Digest, number>) => [...bytes.values()].reduce((total, each) => total + each, 0);
  return {
    place: uses[0]!.part.label,
    models: [...new Set(uses.map(({ chain }) => chain))],
    runs: cuts.get(uses[0]!.part)!.map(({ tensors }) => tensors.map(({ name }) => name)),
    saved_bytes: sum(wholes) - sum(runs),
    more_sessions: runs.size - wholes.size,
  };
}

function keyOf(tensors: TensorEntry[]): string {
  return tensors.map(({ digest }) => digest).join(" ");
}

function bytesOf(tensors: TensorEntry[]): number {
  return tensors.reduce((sum, { bytes }) => sum + bytes, 0);
}

function groupBy<Item>(items: Item[], keyOfItem: (item: Item) => string): Item[][] {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const key = keyOfItem(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return [...groups.values()];
}
