import type { CoreSpec } from "./specifications.ts";
import type { OnnxModel } from "../onnx/model.ts";
import { viewRows } from "./form.ts";
import { checkPresent } from "./lift-attention.ts";
import type { FoundCore, Lifter } from "./lifter.ts";
import { sameWindow } from "./mask.ts";
import { feedInputs, layersOf, type ModelHints, type Probe } from "./probe.ts";
import { agreesFar } from "./rotary.ts";
import { roundHalves } from "./round-halves.ts";
import { describeNode, RowProgram, type RowNode } from "./rows.ts";
import { selectionOf } from "./selection.ts";
import { simplify } from "./simplify.ts";
import { differingUse, requireSameUses } from "./trace.ts";
import { Unliftable, type Value } from "./value.ts";
import { constantVectors, walkGraph } from "./walk.ts";

/** A decoder in normal form: a row program whose only stateful nodes are its attention cores. */
export interface CanonicalModel {
  program: RowProgram;
  logits: number;
  /** Row node of each core, first layer first. */
  cores: number[];
  /** The file is right only when fed one token per call; the chain, which is causal, is right however it is fed. */
  oneTokenAtATime: boolean;
  /** Positions that the file's own tables cover; null: no table limits them. */
  tableRows: number | null;
}

/**
 * Lifts a graph to its normal form by following it at concrete points instead of matching patterns: what depends on
 * shapes, masks and positions only is computed, what moves elements is traced, what computes becomes row nodes.
 *
 * Two short points with elements traced must give one program; a point with an empty past and one with a past as
 * long as the context must agree with the masks and rotary angles found. Throws `Unliftable` otherwise: a model that
 * is not understood to the last element is served whole, never almost right.
 */
export function canonicalise(model: OnnxModel, hints: ModelHints): CanonicalModel {
  try {
    return canonicaliseAt(model, hints, { short: 3, longer: 4, far: 2 });
  } catch (error) {
    // Some graphs take several new tokens only without a past: behind one, they are followed a token at a time.
    if (!(error instanceof Unliftable) || !error.message.includes("does not broadcast")) throw error;
    return canonicaliseAt(model, hints, { short: 1, longer: 1, far: 1 });
  }
}

function canonicaliseAt(
  model: OnnxModel,
  hints: ModelHints,
  tokens: { short: number; longer: number; far: number },
): CanonicalModel {
  const lift = (probe: Probe): Lift => liftAt(model, hints, probe);
  const short = lift({ past: 5, sequence: tokens.short, shapesOnly: false });
  const longer = lift({ past: 9, sequence: tokens.longer, shapesOnly: false });
  requireSame(short, longer);
  requireSameScales(short, longer);
  const tableRows = rowsOfTables(short);
  const far = lift({ past: farthest(hints, tableRows), sequence: tokens.far, shapesOnly: true });
  const first = lift({ past: 0, sequence: 4, shapesOnly: true });
  const single = lift({ past: 5, sequence: 1, shapesOnly: true });
  const windows = far.lifter.cores.map((core) => core.spec.window);
  // Just beyond each window: one that opens only later must not pass for one that was always there.
  const edges = [...new Set(windows)].flatMap((window) =>
    window === null ? [] : [lift({ past: window + 2, sequence: tokens.far, shapesOnly: true })],
  );
  for (const other of [short, longer, first, single, ...edges]) requireWindows(other, windows);
  for (const other of [longer, far, first]) requireSameOrder(short, other);
  // Experts may take only so many tokens of a call.
  const routed = short.lifter.program.nodes.some(({ op }) => op === "top");
  const crowd = Math.min(hints.contextLength ?? tableRows ?? CROWD, CROWD);
  const crowded = routed && tokens.short > 1 ? [lift({ past: 0, sequence: crowd, shapesOnly: true })] : [];
  for (const other of [first, single, ...edges, ...crowded]) requireSameUses(short.lifter.uses, other.lifter.uses);
  requireSameFarOn(short, far, (past) => lift({ ...far.lifter.probe, past }));
  requireAngles(short, far);
  const cores = short.lifter.program.nodes.flatMap((node, id) => (node.op === "core" ? [id] : []));
  cores.forEach((id, layer) => setWindow(short.lifter.program.node(id), windows[layer]!));
  const rounded = roundHalves(short.lifter.program, [short.logits, ...cores]);
  const { program, ids } = simplify(rounded.program, [...rounded.outputs.values()]);
  const outputOf = (id: number): number => ids.get(rounded.outputs.get(id)!)!;
  const oneTokenAtATime = short.lifter.cores.some(({ unordered }) => unordered);
  return {
    program,
    logits: outputOf(short.logits),
    cores: cores.map(outputOf),
    tableRows,
    oneTokenAtATime,
  };
}

interface Lift {
  lifter: Lifter;
  logits: number;
}

function liftAt(model: OnnxModel, hints: ModelHints, probe: Probe): Lift {
  const program = new RowProgram();
  const { values, past } = feedInputs(model, probe, { program, hints });
  const lifter: Lifter = {
    probe,
    hints,
    opset: model.opsets.get("") ?? 1,
    program,
    values,
    past,
    inputs: new Set(model.graph.inputs.map(({ name }) => name)),
    cores: [],
    uses: [],
    vectors: probe.shapesOnly ? [] : constantVectors(model.graph),
  };
  const outputs = model.graph.outputs.map((output) => output.name);
  const logitsName = outputs.find((name) => /logits/i.test(name));
  if (logitsName === undefined) throw new Unliftable("outputs", "the graph has no logits output");
  // Hidden states and the like are not served; what nothing else needs of them is not followed.
  const caches = outputs.filter((name) => name !== logitsName && CACHE_OUTPUT.test(name));
  walkGraph(lifter, model.graph, [logitsName, ...caches]);
  const layers = layersOf(past);
  if (lifter.cores.length !== layers)
    throw new Unliftable("outputs", `${lifter.cores.length} attention cores for ${layers} pairs of past inputs`);
  const logits = lifter.values.get(logitsName);
  if (probe.shapesOnly) return { lifter, logits: -1 };
  for (const name of caches) checkPresent(lifter, name, lifter.values.get(name)!);
  return { lifter, logits: logitsNode(lifter, logitsName, logits) };
}

const CACHE_OUTPUT = /present|past|cache|key|value/i;

function logitsNode(lifter: Lifter, name: string, value: Value | undefined): number {
  if (value === undefined) throw new Unliftable(name, "no node gives the logits", { broken: true });
  if (selectionOf(value) !== null) throw new Unliftable(name, "the logits are those of an expert's tokens");
  const view = value.kind === "form" ? viewRows(lifter.program, value) : null;
  if (view?.tokens.at(-1) !== lifter.probe.sequence - 1)
    throw new Unliftable(name, "the logits are not one row per token");
  return view.node;
}

/** A program that depends on where it was probed would be wrong elsewhere. */
function requireSame(a: Lift, b: Lift): void {
  const texts = [a, b].map(({ lifter }) => lifter.program.nodes.map(withoutScale));
  const differing = texts[0]!.findIndex((text, i) => text !== texts[1]![i]);
  if (differing >= 0 || texts[0]!.length !== texts[1]!.length || a.logits !== b.logits) {
    const node = a.lifter.program.nodes[differing]?.op ?? "logits";
    throw new Unliftable(
      `row node ${differing} (${node})`,
      "the graph computes something else when sequences are longer",
    );
  }
}

/** A core's scale comes out of cosines' magnitudes, and those of half-precision tables differ a little by position. */
function withoutScale(node: RowNode): string {
  const { core } = node.attributes;
  if (core === undefined) return describeNode(node);
  return describeNode({ ...node, attributes: { ...node.attributes, core: { ...core, scale: 0 } } });
}

const SCALE_TOLERANCE = 1e-5;

function requireSameScales(a: Lift, b: Lift): void {
  a.lifter.cores.forEach(({ spec, node }, layer) => {
    const other = b.lifter.cores[layer]!.spec.scale;
    if (Math.abs(spec.scale - other) > SCALE_TOLERANCE * Math.abs(spec.scale))
      throw new Unliftable(node, `scores are scaled by ${spec.scale} and, in longer sequences, by ${other}`);
  });
}

/** Where the graph becomes another one, say so: up to there it can be cut. */
function requireSameFarOn(near: Lift, far: Lift, liftFrom: (past: number) => Lift): void {
  const same = (other: Lift): boolean => other.lifter.uses.join() === near.lifter.uses.join();
  if (same(far)) return;
  const { sequence } = far.lifter.probe;
  let [alike, other] = [near.lifter.probe.past, far.lifter.probe.past];
  while (other - alike > 1) {
    const middle = Math.floor((alike + other) / 2);
    if (same(liftFrom(middle))) alike = middle;
    else other = middle;
  }
  const reason = `the graph computes something else for sequences of more than ${alike + sequence} tokens`;
  throw new Unliftable(
    differingUse(near.lifter.uses, far.lifter.uses),
    alike + sequence < SHORTEST_CONTEXT
      ? reason
      : `${reason}; up to there it is cut with --context ${alike + sequence}`,
  );
}

/** New tokens in one call, where experts share them out. */
const CROWD = 600;

/** The short probes must fit. */
export const SHORTEST_CONTEXT = 16;

/** A mask that orders some calls and not others is a prefix that sees itself whole, or worse. */
function requireSameOrder(a: Lift, b: Lift): void {
  a.lifter.cores.forEach(({ unordered, node }, layer) => {
    if (unordered !== b.lifter.cores[layer]!.unordered)
      throw new Unliftable(node, "the mask is neither causal nor a sliding window in some calls");
  });
}

function requireWindows({ lifter }: Lift, windows: (number | null)[]): void {
  lifter.cores.forEach(({ spec, node }, layer) => {
    if (!sameWindow(spec.window, windows[layer] ?? null, lifter.probe) && spec.window !== windows[layer])
      throw new Unliftable(
        node,
        `the mask shows a window of ${spec.window} near the start and of ${windows[layer]} far on`,
      );
  });
}

/** Every position-dependent factor at far positions must be what the rotary specification says. */
function requireAngles(near: Lift, far: Lift): void {
  const { program, cores } = near.lifter;
  cores.forEach((core: FoundCore, layer) => {
    const rotary = rotationOf(program, core.key);
    for (const [i, factor] of far.lifter.cores[layer]!.factors.entries()) {
      const beginning = { factor: core.factors[i]!, position: near.lifter.probe.past };
      if (rotary === undefined || !agreesFar(rotary, beginning, { factor, position: far.lifter.probe.past }))
        throw new Unliftable(core.node, "rotary embedding changes with the length of the sequence");
    }
  });
}

/** Of a key as it is cached: rotated, and perhaps normalised after it. */
function rotationOf(program: RowProgram, key: number): RowNode["attributes"]["rotary"] {
  const { op, inputs, attributes } = program.node(key);
  return op === "norm" || op === "scalar" ? rotationOf(program, inputs[0]!) : attributes.rotary;
}

function setWindow(node: RowNode, window: number | null): void {
  node.attributes = { ...node.attributes, core: { ...(node.attributes.core as CoreSpec), window } };
}

function rowsOfTables({ lifter }: Lift): number | null {
  const ofFactors = lifter.cores
    .flatMap((core) => core.factors)
    .flatMap(({ table }) => (table === null ? [] : [table.weight.dims[0]! - table.offset]));
  const ofPositions = lifter.program.nodes
    .filter(({ op, inputs }) => op === "embed" && inputs.length === 0)
    .map(({ weights, attributes }) => weights["table"]!.dims[0]! - attributes.offset!);
  const rows = [...ofFactors, ...ofPositions];
  return rows.length === 0 ? null : Math.min(...rows);
}

const LONGEST_PROBE = 32_768;

function farthest(hints: ModelHints, tableRows: number | null): number {
  return Math.min(hints.contextLength ?? tableRows ?? LONGEST_PROBE, LONGEST_PROBE) - 2;
}
