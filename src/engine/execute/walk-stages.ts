import type { CoreSpec, RotarySpec } from "../../blocks/block.ts";
import { scalesByCall } from "../../chain/chain.ts";
import type { Plan, PlannedChain, Segment } from "../../chain/plan.ts";

/** A stage with all that running it needs to know about each chain that takes part. */
export interface WalkStage {
  segment: Segment;
  members: ReadonlyMap<number, StageMember>;
}

export interface StageMember {
  /** Index in the chain's steps of the segment's first part. */
  step: number;
  rotary: RotarySpec | null;
  /** Which of the segment's adapters the chain's rows take, from 1; 0: none. */
  adapter: number;
  /** The core that follows the segment in this chain. */
  core: { layer: number; spec: CoreSpec } | null;
  /** No core is left, and rows do not depend on each other: only those whose logits are asked go on. */
  tail: boolean;
}

export function walkStages(plan: Plan): WalkStage[] {
  const rotaries = new Map<string, RotarySpec>();
  const walks = plan.chains.map((planned) => membersOf(planned, plan.segments, rotaries));
  return plan.stages.map(({ segment, members }) => ({
    segment: plan.segments[segment]!,
    members: new Map(members.map(({ chain, position }) => [chain, walks[chain]![position]!])),
  }));
}

function membersOf(
  { chain, walk }: PlannedChain,
  segments: readonly Segment[],
  rotaries: Map<string, RotarySpec>,
): StageMember[] {
  let steps = 0;
  const lastCore = walk.findLastIndex((step) => step.kind === "core");
  return walk.flatMap((step, at): StageMember[] => {
    const first = steps;
    steps += step.kind === "core" ? 1 : segments[step.segment]!.parts.length;
    if (step.kind === "core") return [];
    const next = walk[at + 1];
    const core = next?.kind === "core" ? { layer: next.layer, spec: chain.cores[next.layer]! } : null;
    const rotary = step.rotary && oneOf(rotaries, step.rotary);
    const tail = at > lastCore && !scalesByCall(chain.document);
    return [{ step: first, rotary, adapter: step.adapter, core, tail }];
  });
}

/** Equal specifications of different layers become one object, so that their rows are made once a step. */
function oneOf(rotaries: Map<string, RotarySpec>, rotary: RotarySpec): RotarySpec {
  const key = JSON.stringify(rotary);
  const known = rotaries.get(key) ?? rotary;
  rotaries.set(key, known);
  return known;
}
