import type { LowRankFactors } from "../blocks/adapter.ts";
import type { Digest, Port, RotarySpec } from "../blocks/block.ts";
import { factorTensors, type BlockChain, type ChainPart, type ChainStep } from "./chain.ts";
import { orderStages, type Stage } from "./stages.ts";

/** Many chains together: what is loaded, once each, and in which order a batch of all of them walks through it. */
export interface Plan {
  chains: PlannedChain[];
  segments: Segment[];
  stages: Stage[];
  /** Weights and graphs on disk, every blob counted once. */
  bytes: number;
}

export interface PlannedChain {
  chain: BlockChain;
  walk: WalkStep[];
}

export type WalkStep =
  /**
   * `rotary` and `adapter` belong to this chain's use of the segment: chains with other angles or other low-rank
   * additions share the weights. `adapter` counts `Segment.adapters` from 1; 0 adds nothing.
   */
  { kind: "segment"; segment: number; rotary: RotarySpec | null; adapter: number } | { kind: "core"; layer: number };

/** Consecutive parts that exactly the same places of the same chains use: one runtime session. */
export interface Segment {
  id: number;
  parts: ChainPart[];
  /** Indices into `Plan.chains`, ascending. */
  chains: number[];
  inputs: Port[];
  outputs: Port[];
  /** What chains add to the segment's projections, each different set once: per part, its factors. */
  adapters: LowRankFactors[][][];
  /** Of weights, graphs and factors, every blob once. */
  bytes: number;
}

/**
 * Every distinct part goes into exactly one segment. Parts a and b with no core between them share a segment iff every
 * a in any chain is followed by b and every b is preceded by a. A head stays alone: it runs on fewer rows than what is
 * before it. `fuse: false` keeps every part a segment of its own, for those who look between them.
 */
export function planChains(chains: BlockChain[], { fuse = true } = {}): Plan {
  const fused = fuse ? fusedPairs(chains) : new Map<Digest, Digest>();
  const segments = new Map<Digest, Segment>();
  const planned = chains.map((chain, index) => ({ chain, walk: walkOf(chain, index, fused, segments) }));
  const list = [...segments.values()];
  for (const segment of list) segment.bytes = bytesOf([segment]);
  const bytes = bytesOf(list);
  return { chains: planned, segments: list, stages: orderStages(planned.map((one) => segmentIds(one.walk))), bytes };
}

/** first part → second part, for every pair that may share a segment. */
function fusedPairs(chains: BlockChain[]): Map<Digest, Digest> {
  const after = new Map<Digest, Set<Digest | null>>();
  const before = new Map<Digest, Set<Digest | null>>();
  for (const { steps } of chains) {
    steps.forEach((step, at) => {
      if (step.kind === "core") return;
      note(after, step.part.graph, partDigest(steps[at + 1]));
      note(before, step.part.graph, isHead(step.part) ? null : partDigest(steps[at - 1]));
    });
  }
  const pairs = new Map<Digest, Digest>();
  for (const [first, followers] of after) {
    const [second] = followers;
    if (second && followers.size === 1 && before.get(second)?.size === 1 && before.get(second)?.has(first)) {
      pairs.set(first, second);
    }
  }
  return pairs;
}

function walkOf(
  chain: BlockChain,
  index: number,
  fused: Map<Digest, Digest>,
  segments: Map<Digest, Segment>,
): WalkStep[] {
  const walk: WalkStep[] = [];
  for (let at = 0; at < chain.steps.length; at++) {
    const step = chain.steps[at]!;
    if (step.kind === "core") {
      walk.push({ kind: "core", layer: step.layer });
      continue;
    }
    const parts = [step.part];
    for (let last = step.part; fused.has(last.graph);) {
      last = (chain.steps[++at] as { part: ChainPart }).part;
      parts.push(last);
    }
    const segment = segments.get(step.part.graph) ?? newSegment(segments.size, parts);
    segments.set(step.part.graph, segment);
    if (segment.chains.at(-1) !== index) segment.chains.push(index);
    walk.push({ kind: "segment", segment: segment.id, rotary: rotaryOf(parts), adapter: adapterOf(segment, parts) });
  }
  return walk;
}

/** At most one part of a segment takes `cos` and `sin`: a core follows it. */
function rotaryOf(parts: ChainPart[]): RotarySpec | null {
  return parts.find((part) => part.rotary)?.rotary ?? null;
}

function adapterOf({ adapters }: Segment, parts: ChainPart[]): number {
  const own = parts.map(({ factors }) => factors);
  if (own.every((factors) => factors.length === 0)) return 0;
  const key = JSON.stringify(own);
  const known = adapters.findIndex((adapter) => JSON.stringify(adapter) === key);
  return known === -1 ? adapters.push(own) : known + 1;
}

function newSegment(id: number, parts: ChainPart[]): Segment {
  const ports = { inputs: segmentInputs(parts), outputs: segmentOutputs(parts) };
  return { id, parts, chains: [], ...ports, adapters: [], bytes: 0 };
}

/** A part's `hidden`, and what runs of a cut part hand on, come from outside only while no part before it has given them. */
function segmentInputs(parts: ChainPart[]): Port[] {
  const inputs = new Map<string, Port>();
  const inside = new Set<string>();
  for (const part of parts) {
    for (const port of part.inputs) if (!inside.has(port.name)) inputs.set(port.name, port);
    for (const { name } of part.outputs)
      if (name === "hidden_out" || isInner(name)) inside.add(name === "hidden_out" ? "hidden" : name);
  }
  return [...inputs.values()];
}

/** The last `hidden_out` leaves even beside q, k, v: it is the residual that the attention (out) part adds to. */
function segmentOutputs(parts: ChainPart[]): Port[] {
  const outputs = new Map(parts.flatMap((part) => part.outputs.map((port) => [port.name, port] as const)));
  const live = new Set(parts.at(-1)!.cut?.live.map(({ name }) => name));
  return [...outputs.values()].filter(({ name }) => !isInner(name) || live.has(name));
}

function isInner(name: string): boolean {
  return name.startsWith("~");
}

function bytesOf(segments: Segment[]): number {
  const blobs = new Map<Digest, number>();
  for (const { parts, adapters } of segments) {
    for (const part of parts) blobs.set(part.graph, part.graphBytes);
    const tensors = [...parts.flatMap((part) => part.tensors), ...factorTensors(adapters.flat(2))];
    for (const { digest, bytes } of tensors) blobs.set(digest, bytes);
  }
  return [...blobs.values()].reduce((sum, size) => sum + size, 0);
}

function segmentIds(walk: WalkStep[]): number[] {
  return walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : []));
}

function partDigest(step: ChainStep | undefined): Digest | null {
  return step?.kind === "part" && !isHead(step.part) ? step.part.graph : null;
}

function isHead(part: ChainPart): boolean {
  return part.outputs.some((port) => port.name === "logits");
}

function note(table: Map<Digest, Set<Digest | null>>, key: Digest, neighbour: Digest | null): void {
  table.set(key, (table.get(key) ?? new Set()).add(neighbour));
}
