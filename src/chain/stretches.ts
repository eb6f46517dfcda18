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
  const ways = plan.chains.map((one) => wayOf(one, plan.segments));
  return ways.map((one) => {
    const places = new Set(ways.map((other) => partingPlace(one, other)));
    const partings = [...places].filter((place) => place !== null).toSorted((a, b) => a - b);
    return cutAt(one, partings);
  });
}

/** A chain's walk, place by place. */
interface Way {
  chain: BlockChain;
  places: Place[];
}

interface Place {
  /** Equal texts: the same segment used the same way, or the same core. */
  text: string;
  isCore: boolean;
  /** Index of its first step. */
  step: number;
}

function wayOf({ chain, walk }: PlannedChain, segments: readonly Segment[]): Way {
  let next = 0;
  const places = walk.map((one): Place => {
    const step = next;
    next += one.kind === "core" ? 1 : segments[one.segment]!.parts.length;
    const text = JSON.stringify(one.kind === "core" ? chain.cores[one.layer] : one);
    return { text, isCore: one.kind === "core", step };
  });
  return { chain, places };
}

/**
 * The last place up to which both have the same walk and where nothing crosses but the hidden stream and a core's rows;
 * null where no core lies before it, or none behind it: rows behind the last core are of no use to others.
 */
function partingPlace(one: Way, other: Way): number | null {
  let place = one.places.findIndex(({ text }, at) => text !== other.places[at]?.text);
  if (place === -1) return null;
  // Between a core and the segment that feeds it, or inside a part that is cut finer, more would have to be kept.
  const isOpen = (at: number): boolean => {
    const [ports, others] = [one, other].map(({ chain, places }) => crossingPorts(chain, places[at]?.step));
    return ports !== null && JSON.stringify(ports) === JSON.stringify(others);
  };
  while (place > 0 && !isOpen(place)) place--;
  const hasCore = (places: Place[]): boolean => places.some(({ isCore }) => isCore);
  return hasCore(one.places.slice(0, place)) && hasCore(one.places.slice(place)) ? place : null;
}

/** What steps from this one on take of what is made before, where that is the hidden stream and a core's rows alone. */
function crossingPorts({ steps }: BlockChain, from: number | undefined): Port[] | null {
  if (from === undefined) return null;
  const taken = new Map<string, Port>();
  const made = new Set<string>(["ids", "positions", "cos", "sin"]);
  for (const step of steps.slice(from)) {
    if (step.kind === "core") {
      if (["q", "k", "v"].some((name) => !made.has(name))) return null;
      made.add("o");
      continue;
    }
    for (const port of step.part.inputs) if (!made.has(port.name)) taken.set(port.name, port);
    for (const { name } of step.part.outputs) made.add(name === "hidden_out" ? "hidden" : name);
  }
  const ports = [...taken.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return ports.every(({ name }) => name === "hidden" || name === "o") ? ports : null;
}

function cutAt({ chain, places }: Way, partings: readonly number[]): Stretch[] {
  const stretches: Stretch[] = [];
  let [first, end] = [0, 0];
  for (const [place, { isCore, step }] of places.entries()) {
    if (partings.includes(place)) {
      stretches.push(stretchOf(chain, { first, end, parting: { step, ports: crossingPorts(chain, step)! } }));
      first = end;
    }
    if (isCore) end++;
  }
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
