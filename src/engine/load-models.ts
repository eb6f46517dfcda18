import type { BlockChain, Chain, OpaqueChain } from "../chain/chain.ts";
import { planChains } from "../chain/plan.ts";
import { refineChains } from "../chain/refine-chains.ts";
import { resolveChain, type BlockSource } from "../chain/resolve-chain.ts";
import type { EngineConfig } from "./engine-config.ts";
import { AttentionCores } from "./execute/attention-core.ts";
import { ChainExecutor } from "./execute/chain-executor.ts";
import type { Executor, Needs } from "./execute/executor.ts";
import { OpaqueExecutor } from "./execute/opaque-executor.ts";
import { loadablePlan, sharesRuns, type LoadablePlan } from "./execute/ready-plan.ts";
import { RoutedExecutor } from "./execute/routed-executor.ts";
import type { SessionSource } from "./execute/segment-session.ts";
import { describeModel } from "./describe-model.ts";
import type { ScheduledModel } from "./sequence.ts";
import { verifyBlobs } from "./verify-blobs.ts";

export interface LoadedModels {
  executor: Executor;
  models: ScheduledModel[];
  /**
   * Gets other models ready while these are served. `live` says, when it is asked, whose sequences are not ended yet:
   * they run on. Nothing changes before `commit`. Missing where the models cannot be changed.
   */
  change?: (names: readonly string[] | "all", live: () => ReadonlySet<string>) => Promise<NextModels>;
}

/** What will be served, and what it needs. */
export interface NextModels {
  models: ScheduledModel[];
  /** Also of models that are not served any more and still have sequences. */
  needs: Needs;
  /** From now on the executor runs these. Between two steps. */
  commit: () => Promise<void>;
}

/** A repository, to serve whatever it has. */
export interface ModelSource extends BlockSource {
  listModels(): Promise<{ name: string }[]>;
}

/** Resolves, verifies and plans models and loads all of them. Errors: as openModels, and model_unsupported. */
export async function loadModels(
  source: BlockSource,
  names: readonly string[],
  config: EngineConfig,
): Promise<LoadedModels> {
  const set = new ModelSet(source, config);
  const { models, commit } = await set.prepare(names, () => new Set());
  await commit();
  for (const loadables of set.executor.needs.values()) for (const one of loadables) await one.load();
  await set.executor.whileIdle(Infinity);
  return { executor: set.executor, models };
}

/** The same without loading any weights. Errors: as resolveChain and verifyBlobs; memory_exceeded. */
export async function openModels(
  source: ModelSource,
  wanted: readonly string[] | "all",
  config: EngineConfig,
): Promise<LoadedModels> {
  const set = new ModelSet(source, config);
  const change: LoadedModels["change"] = async (names, live) => {
    const chosen = names === "all" ? (await source.listModels()).map(({ name }) => name) : names;
    return await set.prepare(chosen, live);
  };
  const { models, commit } = await change(wanted, () => new Set());
  await commit();
  return { executor: set.executor, models, change };
}

class ModelSet {
  readonly executor = new RoutedExecutor(new Map());
  readonly #source: BlockSource;
  readonly #config: EngineConfig;
  readonly #from: SessionSource;
  readonly #cores: AttentionCores;
  /** Served ones, and those that were when their sequences began. */
  #chains: ReadonlyMap<string, Chain> = new Map();
  #served: ReadonlySet<string> = new Set();
  #plan: LoadablePlan | null = null;
  #shared: ChainExecutor | null = null;
  #opaque: ReadonlyMap<string, OpaqueExecutor> = new Map();

  constructor(source: BlockSource, config: EngineConfig) {
    this.#source = source;
    this.#config = config;
    this.#from = { source, threads: config.threads, maxBatchTokens: config.maxBatchTokens, solo: config.solo };
    this.#cores = new AttentionCores(config.threads);
  }

  async prepare(names: readonly string[], live: () => ReadonlySet<string>): Promise<NextModels> {
    const served = await Promise.all(names.map(async (name) => resolveChain(this.#source, name)));
    await verifyBlobs(
      this.#source,
      served.filter(({ key }) => !this.#chains.has(key)),
    );
    // Those served until now may get requests until the change. Taking one away by itself cuts and joins no segment.
    const stay = new Set([...live(), ...this.#served]);
    const chains = new Map([...this.#chains].filter(([key]) => stay.has(key)));
    for (const chain of served) chains.set(chain.key, chain);

    const refined = await refineChains([...chains.values()].filter(isBlockChain), this.#source);
    const plan = await loadablePlan(planChains(refined.chains), {
      cores: this.#cores,
      known: this.#plan?.sessions.sessions ?? [],
      from: this.#from,
    });
    const opaque = new Map(
      [...chains.values()]
        .filter((chain): chain is OpaqueChain => !isBlockChain(chain))
        .map((chain) => [chain.key, this.#opaque.get(chain.key) ?? new OpaqueExecutor(chain, this.#from)]),
    );
    const needs: Needs = new Map([...plan.needs, ...[...opaque.values()].flatMap((one) => [...one.needs])]);
    const models = served.map((chain) => describeModel(chain, { config: this.#config, ...facts(chain, plan, needs) }));
    const commit = async (): Promise<void> => {
      this.#served = new Set(served.map(({ key }) => key));
      this.#chains = chains;
      this.#plan = plan;
      this.#opaque = opaque;
      await this.#shared?.adopt(plan);
      this.#shared ??= new ChainExecutor(plan);
      const shared = this.#shared;
      this.executor.adopt(new Map([...chains.keys()].map((key) => [key, opaque.get(key) ?? shared])));
    };
    return { models, needs, commit };
  }
}

function isBlockChain(chain: Chain): chain is BlockChain {
  return chain.kind === "blocks";
}

function facts(
  chain: Chain,
  plan: LoadablePlan,
  needs: Needs,
): Pick<ScheduledModel, "speculates" | "stretches"> & { weightBytes: number } {
  const weightBytes = needs.get(chain.key)!.reduce((sum, { bytes }) => sum + bytes, 0);
  if (!isBlockChain(chain)) return { weightBytes, speculates: false, stretches: [] };
  return {
    weightBytes,
    speculates: sharesRuns(plan, chain.key),
    stretches: plan.stretches[plan.chainOf.get(chain.key)!]!,
  };
}
