import type { Digest, Port } from "../blocks/block.ts";
import { digestDocument } from "../fingerprint/digest.ts";
import type { BlockChain, ChainPart } from "./chain.ts";
import type { Plan, PlannedChain, Segment } from "./plan.ts";

/**
 * A stretch of a chain's cores, from where models of the plan go one way to where they go several. The state of its
 * layers, and the rows that reach its end, are the same for all models that have come that way.
 */
export interface Stretch {
  /** Equal keys: equal tokens give equal keys and values in its layers and equal rows at its end. */
  key: Digest;
  /** Layers [first, end). */
  layers: { first: number; end: number };
  /** Keys and values of its layers. */
  bytesPerToken: number;
  /** Where ways part; null: it holds the last core. */
  parting: Parting | null;
}

export interface Parting {
  /** Index in `BlockChain.steps` of the part that comes next. */
  step: number;
  /** The values that reach it, in the order of their rows. */
  ports: Port[];
}

/** Per chain of the plan, in order; chains without a core have none. */
export function stretchesOf(plan: Plan): Stretch[][] {
  return plan.chains.map((one) => {
    const places = new Set(plan.chains.map((other) => partingPlace(one, other)));
    const partings = [...places].filter((place) => place !== null).toSorted((a, b) => a - b);
    return cutAt(one, partings, plan.segments);
  });
}

/**
 * The place in the walk of `one` up to which `other` has the same walk; null where no core lies before it, or none behind
 * it: rows that reach a place behind the last core are of no use to others.
 */
function partingPlace(one: PlannedChain, other: PlannedChain): number | null {
  const [ways, others] = [one, other].map(({ chain, walk }) =>
    walk.map((step) => JSON.stringify(step.kind === "core" ? chain.cores[step.layer] : step)),
  ) as [string[], string[]];
  const differs = ways.findIndex((way, at) => way !== others[at]);
  if (differs === -1) return null;
  // Cores that differ behind one segment: the segment has to run again.
  const place = one.walk[differs]!.kind === "core" ? differs - 1 : differs;
  const isCore = ({ kind }: { kind: string }): boolean => kind === "core";
  return one.walk.slice(0, place).some(isCore) && one.walk.slice(place).some(isCore) ? place : null;
}

function cutAt({ chain, walk }: PlannedChain, places: number[], segments: Segment[]): Stretch[] {
  const stretches: Stretch[] = [];
  let [step, first] = [0, 0];
  let end = 0;
  walk.forEach((one, place) => {
    if (places.includes(place) && one.kind === "segment") {
      const ports = segments[one.segment]!.inputs.filter(({ name }) => name === "hidden" || name === "o");
      stretches.push(stretchOf(chain, { first, end, parting: { step, ports } }));
      first = end;
    }
    if (one.kind === "core") end++;
    step += one.kind === "core" ? 1 : segments[one.segment]!.parts.length;
  });
  return end === 0 ? [] : [...stretches, stretchOf(chain, { first, end, parting: null })];
}

function stretchOf(
  chain: BlockChain,
  { first, end, parting }: { first: number; end: number; parting: Parting | null },
): Stretch {
  const last = chain.steps.findLastIndex(({ kind }) => kind === "core");
  const deciding = chain.steps.slice(0, parting?.step ?? last + 1);
  const key = digestDocument({
    steps: deciding.map((one) => (one.kind === "core" ? one.core : deciders(one.part))),
    first,
    ports: parting?.ports ?? [],
  });
  const cores = chain.cores.slice(first, end);
  const bytesPerToken = cores.reduce(
    (sum, { kvHeads, headSize, valueHeadSize }) => sum + 4 * kvHeads * (headSize + valueHeadSize),
    0,
  );
  return { key, layers: { first, end }, bytesPerToken, parting };
}

/** What decides a part's rows: its graph, whose digest covers its weights, its angles, and what is added to it. */
function deciders({ graph, rotary, factors }: ChainPart): object {
  return factors.length === 0 ? { graph, rotary } : { graph, rotary, factors };
}
