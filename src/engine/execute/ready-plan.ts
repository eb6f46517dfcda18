import type { Plan, PlannedChain } from "../../chain/plan.ts";
import { stretchesOf, type Stretch } from "../../chain/stretches.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { Workspace } from "../memory/workspace.ts";
import type { AttentionCores } from "./attention-core.ts";
import { rankChains } from "./batch-layout.ts";
import type { WalkPlan } from "./batch-walker.ts";
import type { Needs } from "./executor.ts";
import { readRotaryTables } from "./rotary-tables.ts";
import { SegmentSession, sessionKey, type SessionSource } from "./segment-session.ts";
import { SessionPool, type SegmentSessions } from "./session-pool.ts";
import { walkStages } from "./walk-stages.ts";

/** A plan with all that running it needs. */
export interface ReadyPlan extends WalkPlan {
  plan: Plan;
  sessions: SegmentSessions;
  /** Model key → its chain. */
  chainOf: ReadonlyMap<string, number>;
  /** Per chain. */
  stretches: Stretch[][];
  /** What sessions for decoding alone are made from; null: there are none. */
  solo: { source: BlockSource; threads: number } | null;
}

/** The same over sessions that are loaded on demand. */
export interface LoadablePlan extends ReadyPlan {
  sessions: SessionPool;
  /** Model key → the sessions that its chain walks through, and what all compute in. */
  needs: Needs;
  workspace: Workspace;
}

/** Loads no weights. Sessions of segments that are in a `known` plan are taken over. Errors: blob_missing, model_invalid. */
export async function loadablePlan(
  plan: Plan,
  { cores, known, from }: { cores: AttentionCores; known: LoadablePlan | null; from: SessionSource },
): Promise<LoadablePlan> {
  const opened: SegmentSession[] = [];
  for (const segment of plan.segments) {
    const key = sessionKey(segment, from);
    opened.push(
      known?.sessions.sessions.find((session) => session.key === key) ?? (await SegmentSession.open(segment, from)),
    );
  }
  const sessions = new SessionPool(opened);
  const needed = Workspace.onHost(plan.segments, from.maxBatchTokens);
  const workspace = known?.workspace.key === needed.key ? known.workspace : needed;
  const needs = new Map(plan.chains.map(({ chain, walk }) => [chain.key, [...sessionsOf(walk, opened), workspace]]));
  const solo = from.solo === "auto" ? from : null;
  const ready = await readyPlan(plan, { source: from.source, sessions, cores });
  await from.lanes?.load(plan.chains.flatMap(({ chain }) => chain.cores));
  return { ...ready, sessions, needs, workspace, solo };
}

/** Runs the segments with sessions that are there already. */
export async function readyPlan(
  plan: Plan,
  { source, sessions, cores }: { source: BlockSource; sessions: SegmentSessions; cores: AttentionCores },
): Promise<ReadyPlan> {
  const stages = walkStages(plan);
  const tables = await readRotaryTables(stages, source);
  await cores.load(plan.chains.flatMap(({ chain }) => chain.cores));
  const chainOf = new Map(plan.chains.map(({ chain }, index) => [chain.key, index]));
  return {
    plan,
    stages,
    sessions,
    chainOf,
    rank: rankChains(plan.chains),
    stretches: stretchesOf(plan),
    tables,
    cores,
    solo: null,
  };
}

function sessionsOf(walk: PlannedChain["walk"], sessions: readonly SegmentSession[]): SegmentSession[] {
  const segments = walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : []));
  return [...new Set(segments)].map((segment) => sessions[segment]!);
}

/** Do all of a model's rows share runs? */
export function sharesRuns({ plan, chainOf, sessions }: LoadablePlan, model: string): boolean {
  const { walk } = plan.chains[chainOf.get(model)!]!;
  return sessionsOf(walk, sessions.sessions).every(({ sharing }) => sharing !== null);
}
