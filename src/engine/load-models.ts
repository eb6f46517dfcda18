import type { BlockChain, Chain, OpaqueChain } from "../chain/chain.ts";
import type { Plan } from "../chain/plan.ts";
import { resolveChain, type BlockSource } from "../chain/resolve-chain.ts";
import { BlockllmError } from "../support/errors.ts";
import { describeModel, describeModels } from "./describe-model.ts";
import { isWebgpu, type Device } from "./device/device.ts";
import type { EngineConfig } from "./engine-config.ts";
import type { Executor, Needs } from "./execute/executor.ts";
import { OpaqueExecutor } from "./execute/opaque-executor.ts";
import { RoutedExecutor } from "./execute/routed-executor.ts";
import type { SessionSource } from "./execute/segment-session.ts";
import { plannedBytes } from "./memory/planned-bytes.ts";
import type { ChainFacts, ChainRunner, PreparedChains } from "./runners/chain-runner.ts";
import { placement } from "./runners/cuda-placement.ts";
import { HostRunner } from "./runners/host-runner.ts";
import { WebgpuRunner } from "./runners/webgpu-runner.ts";
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
  /** Of the same models: where the new plan cuts their prompts' state. */
  stretches: ReadonlyMap<string, ScheduledModel["stretches"]>;
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
  readonly #host: HostRunner;
  /** null: everything runs on the host. */
  readonly #device: ChainRunner | null;
  /** Served ones, and those that were when their sequences began. */
  #chains: ReadonlyMap<string, Chain> = new Map();
  #served: ReadonlySet<string> = new Set();
  #opaque: ReadonlyMap<string, OpaqueExecutor> = new Map();

  constructor(source: BlockSource, config: EngineConfig) {
    this.#source = source;
    this.#config = config;
    this.#host = hostRunner(source, config, ["cpu"]);
    this.#device = deviceRunner(source, config);
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

    const { onHost, onDevice, reasons } = await this.#divide([...chains.values()]);
    const host = await this.#host.prepare(onHost);
    const device = onDevice.length === 0 ? null : await this.#device!.prepare(onDevice);
    const runs = (chain: Chain): PreparedChains => (device && onDevice.includes(chain as BlockChain) ? device : host);
    const from = sessionSource(this.#source, this.#config);
    const opaque = new Map(
      [...chains.values()]
        .filter((chain): chain is OpaqueChain => !isBlockChain(chain))
        .map((chain) => [chain.key, this.#opaque.get(chain.key) ?? new OpaqueExecutor(chain, from)]),
    );
    const needs: Needs = new Map([
      ...host.needs,
      ...(device?.needs ?? []),
      ...[...opaque.values()].flatMap((one) => [...one.needs]),
    ]);
    const models = describeModels(served, (chain) => {
      const weightBytes = needs.get(chain.key)!.reduce((sum, { bytes }) => sum + bytes, 0);
      const facts = isBlockChain(chain) ? runs(chain).facts(chain) : OPAQUE;
      const hostReason = reasons.get(chain.key);
      const described = describeModel(chain, { config: this.#config, weightBytes, ...facts });
      return hostReason === undefined ? described : { ...described, hostReason };
    });
    const commit = async (): Promise<void> => {
      this.#served = new Set(served.map(({ key }) => key));
      this.#chains = chains;
      this.#opaque = opaque;
      const executors = new Map<PreparedChains | null, Executor>([[host, await host.commit()]]);
      if (device) executors.set(device, await device.commit());
      const of = (chain: Chain): Executor => opaque.get(chain.key) ?? executors.get(runs(chain))!;
      this.executor.adopt(new Map([...chains].map(([key, chain]) => [key, of(chain)])));
    };
    const blocked = [...chains.values()].filter(isBlockChain);
    const stretches = new Map(blocked.map((chain) => [chain.key, runs(chain).facts(chain).stretches]));
    return { models, needs, stretches, commit };
  }

  /** Error: model_unsupported where a device was asked for by name and cannot run one of the models. */
  async #divide(chains: Chain[]): Promise<Divided> {
    const divided: Divided = { onHost: [], onDevice: [], reasons: new Map() };
    for (const chain of chains) {
      if (!this.#device) {
        if (isBlockChain(chain)) divided.onHost.push(chain);
        continue;
      }
      const reason = isBlockChain(chain) ? await this.#device.obstacle(chain) : "it is not taken apart into blocks";
      if (reason !== null && this.#config.deviceStrict) throw notOnDevice(chain, this.#config.device, reason);
      if (reason !== null) divided.reasons.set(chain.key, reason);
      if (isBlockChain(chain)) divided[reason === null ? "onDevice" : "onHost"].push(chain);
    }
    return divided;
  }
}

interface Divided {
  onHost: BlockChain[];
  onDevice: BlockChain[];
  /** Key → why a model is not on the device. */
  reasons: Map<string, string>;
}

const OPAQUE: ChainFacts = { speculates: false, stretches: [] };

function deviceRunner(source: BlockSource, config: EngineConfig): ChainRunner | null {
  if (config.device === "cpu") return null;
  if (isWebgpu(config.device)) return new WebgpuRunner(source, { ...config, device: config.device });
  return hostRunner(source, config, config.device.split(",") as Device[]);
}

function hostRunner(source: BlockSource, config: EngineConfig, devices: Device[]): HostRunner {
  const { threads, maxBatchTokens, solo, shareBatches, lanes } = config;
  const onHost = devices[0] === "cpu";
  const bytesOf = plannedBytes(source, config);
  const from = async (plan: Plan) => ({
    threads,
    maxBatchTokens,
    shareBatches,
    solo: onHost ? solo : ("off" as const),
    ...(await placement(plan, devices, { bytesOf })),
  });
  return new HostRunner(source, { from, threads, lanes: onHost ? lanes : 1 });
}

function sessionSource(source: BlockSource, { threads, maxBatchTokens, solo }: EngineConfig): SessionSource {
  return { source, threads, maxBatchTokens, solo };
}

function notOnDevice({ name }: Chain, device: string, reason: string): BlockllmError {
  return new BlockllmError("model_unsupported", `${name} cannot run on ${device}: ${reason}`, {
    hint: "--device auto serves it on the CPU, or leave it out with --models",
  });
}

function isBlockChain(chain: Chain): chain is BlockChain {
  return chain.kind === "blocks";
}
