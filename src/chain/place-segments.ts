import { BlockllmError } from "../support/errors.ts";
import type { Plan, PlannedChain, Segment } from "./plan.ts";

const FLOAT_BYTES = 4;

/**
 * Which of several devices each segment goes to, by the segment's id. Consecutive segments stay together, so that what
 * crosses from device to device is what flows over the cuts; of all cuts that fit into `capacities` (bytes per device, in
 * order) those with the fewest bytes per token are taken, and among equal ones those that fill the devices most evenly.
 * `bytes`: what each takes, by its id. Error: memory_exceeded, with the models that fit.
 */
export function placeSegments(plan: Plan, capacities: readonly number[], bytes: readonly number[]): number[] {
  const placed = tryToPlace(plan, capacities, bytes);
  if (placed) return placed;
  const fitting: PlannedChain[] = [];
  for (const chain of plan.chains) {
    const more = [...fitting, chain];
    if (tryToPlace({ ...plan, chains: more }, capacities, bytes)) fitting.push(chain);
  }
  throw tooLarge(orderOf(plan), { capacities, bytes, fitting });
}

/** null: no cuts fit. */
function tryToPlace(plan: Plan, capacities: readonly number[], bytesOf: readonly number[]): number[] | null {
  const order = orderOf(plan);
  const flows = flowsOf(plan, order);
  const upTo = [0];
  for (const { id } of order) upTo.push(upTo.at(-1)! + bytesOf[id]!);
  const total = upTo.at(-1)!;
  const even = total / capacities.length;

  // best[end]: the cheapest way to have the first `end` segments on the devices so far.
  let best: (Cut | null)[] = order.map(() => null);
  best.unshift({ cost: 0, uneven: 0, begin: 0, before: null });
  for (const capacity of capacities) {
    best = best.map((_, end) => {
      let cheapest: Cut | null = null;
      for (let begin = end; begin >= 0; begin--) {
        const bytes = upTo[end]! - upTo[begin]!;
        if (bytes > capacity) break;
        const before = best[begin];
        if (!before) continue;
        const into = flows.filter(({ first, last }) => first < begin && last >= begin && last < end);
        const crossed = into.reduce((sum, flow) => sum + flow.bytes, 0);
        const next = { cost: before.cost + crossed, uneven: before.uneven + (bytes - even) ** 2, begin, before };
        if (!cheapest || isBetter(next, cheapest)) cheapest = next;
      }
      return cheapest;
    });
  }
  const placed = best[order.length];
  return placed ? readBack(placed, order, { devices: capacities.length, segments: plan.segments.length }) : null;
}

interface Flow {
  first: number;
  last: number;
  bytes: number;
}

interface Cut {
  cost: number;
  uneven: number;
  /** First segment of the last device. */
  begin: number;
  before: Cut | null;
}

function isBetter(a: Cut, b: Cut): boolean {
  return a.cost < b.cost || (a.cost === b.cost && a.uneven < b.uneven);
}

/** As chain after chain comes by them: what one chain has for itself lies together. */
function orderOf({ chains, segments }: Plan): Segment[] {
  const ids = chains.flatMap(({ walk }) => walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : [])));
  return [...new Set(ids)].map((id) => segments[id]!);
}

/** What flows from segment to segment, bytes per token of every chain, by their places in the order. */
function flowsOf({ chains }: Plan, order: Segment[]): Flow[] {
  const placeOf = new Map(order.map(({ id }, place) => [id, place]));
  const flows = new Map<string, Flow>();
  for (const { walk } of chains) {
    const places = walk.flatMap((step) => (step.kind === "segment" ? [placeOf.get(step.segment)!] : []));
    places.slice(1).forEach((to, at) => {
      const [first, last] = [places[at]!, to].toSorted((a, b) => a - b) as [number, number];
      const flow = flows.get(`${first} ${last}`) ?? { first, last, bytes: 0 };
      flow.bytes += order[to]!.inputs.reduce((sum, port) => sum + FLOAT_BYTES * port.width, 0);
      flows.set(`${first} ${last}`, flow);
    });
  }
  return [...flows.values()];
}

function readBack(last: Cut, order: Segment[], count: { devices: number; segments: number }): number[] {
  const deviceOf = Array.from({ length: count.segments }, () => 0);
  let end = order.length;
  let cut = last;
  for (let device = count.devices - 1; device >= 0; device--) {
    for (const segment of order.slice(cut.begin, end)) deviceOf[segment.id] = device;
    end = cut.begin;
    cut = cut.before!;
  }
  return deviceOf;
}

function tooLarge(
  order: Segment[],
  {
    capacities,
    bytes,
    fitting,
  }: { capacities: readonly number[]; bytes: readonly number[]; fitting: readonly PlannedChain[] },
): BlockllmError {
  const total = order.reduce((sum, { id }) => sum + bytes[id]!, 0);
  const room = capacities.reduce((sum, capacity) => sum + capacity, 0);
  const excess = total > room ? `, ${total - room} too many` : "";
  const names = fitting.map(({ chain }) => chain.name).join(",");
  return new BlockllmError(
    "memory_exceeded",
    `The segments take ${total} bytes and do not fit, none cut apart, into devices of ${capacities.join(", ")} bytes (${room} in all)${excess}`,
    { hint: names === "" ? "none of the models fits" : `these fit: --models ${names}` },
  );
}
