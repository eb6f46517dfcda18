import type { Chain } from "../../chain/chain.ts";
import type { Plan } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { describeModel, describeModels } from "../describe-model.ts";
import { isWebgpu } from "../device/device.ts";
import type { EngineConfig } from "../engine-config.ts";
import type { Loadable } from "../execute/executor.ts";
import { opaqueBytes } from "../execute/opaque-executor.ts";
import type { ScheduledModel } from "../sequence.ts";
import { MemoryBudget } from "./memory-budget.ts";
import { Residency } from "./residency.ts";
import { plannedBytes } from "./planned-bytes.ts";
import { Workspace } from "./workspace.ts";

export interface MemoryDivision {
  /** Of all segments, loaded or not. */
  weightBytes: number;
  loadedSegments: number;
  kvBytes: number;
  models: Pick<ScheduledModel, "name" | "contextLength">[];
}

/** What an engine with this configuration would begin with. Error: memory_exceeded where a model alone does not fit. */
export async function divideMemory(
  chains: Chain[],
  plan: Plan,
  { config, source }: { config: EngineConfig; source: BlockSource },
): Promise<MemoryDivision> {
  const bytesOf = plannedBytes(source, config);
  const segments = await Promise.all(
    plan.segments.map(async (segment) => unloaded(`${segment.id}`, await bytesOf(segment))),
  );
  const byCapacity = isWebgpu(config.device);
  const workspace = Workspace[byCapacity ? "onDevice" : "onHost"](plan.segments, config.maxBatchTokens);
  const needs = new Map<string, Loadable[]>();
  for (const { chain, walk } of plan.chains) {
    const used = new Set(walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : [])));
    needs.set(chain.key, [...Array.from(used, (id) => segments[id]!), workspace]);
  }
  for (const chain of chains)
    if (chain.kind === "opaque") needs.set(chain.key, [unloaded(chain.key, opaqueBytes(chain, config.maxBatchTokens))]);
  const facts = { config, speculates: false, stretches: [], byCapacity };
  const models = describeModels(chains, (chain) =>
    describeModel(chain, { ...facts, weightBytes: sumOf(needs.get(chain.key)!) }),
  );

  const budget = new MemoryBudget(config);
  const residency = new Residency(budget, needs);
  residency.expectWhatFits(chains.map(({ key }) => key));
  return {
    weightBytes: sumOf([...new Set([...needs.values()].flat())]),
    loadedSegments: residency.dueSegments,
    kvBytes: budget.free("kv"),
    models,
  };
}

function unloaded(key: string, bytes: number): Loadable {
  return { key, bytes, isLoaded: false, load: async () => {}, unload: async () => {} };
}

function sumOf(loadables: readonly Loadable[]): number {
  return loadables.reduce((sum, { bytes }) => sum + bytes, 0);
}
