import { type BlockChain, type Chain, keyValueBytesPerToken } from "../../chain/chain.ts";
import { planChains, type Plan } from "../../chain/plan.ts";
import { refineChains } from "../../chain/refine-chains.ts";
import { resolveChain, type BlockSource } from "../../chain/resolve-chain.ts";
import { isWebgpu } from "../../engine/device/device.ts";
import { graphicsMemory } from "../../engine/device/graphics-memory.ts";
import { engineConfig, type EngineConfig } from "../../engine/engine-config.ts";
import { deviceBytesPerToken } from "../../engine/kv/capacity.ts";
import { divideMemory } from "../../engine/memory/divide-memory.ts";
import { ownBytes } from "../../engine/memory/own-bytes.ts";
import { plannedBytes } from "../../engine/memory/planned-bytes.ts";
import { openRepository } from "../../store/open-repository.ts";
import { defineCommand } from "../command.ts";
import { LANES_OPTION } from "../lanes-option.ts";
import { formatBytes, formatCount, formatPercent } from "../output/format.ts";
import { renderFacts, renderTable } from "../output/table.ts";
import { byteCount, nameList } from "../parse-values.ts";
import {
  deviceFacts,
  type DevicePlanReport,
  leftOutOn,
  PLANNED_DEVICE_OPTION,
  type PlannedDevice,
  spreadOverCuda,
} from "../plan-device.ts";

interface PlanOptions {
  models?: string[];
  memory?: number;
  device?: PlannedDevice;
  lanes?: number;
}

interface PlanReport {
  /** `own_bytes`: memory it adds to what the others take: sessions and adapters that no other model uses. */
  models: { name: string; bytes: number; own_bytes: number; kv_bytes_per_token: number }[];
  segments: { id: number; parts: string[]; models: string[]; bytes: number }[];
  /** Weights loaded once each, against once per model. */
  bytes: number;
  bytes_per_model_deployment: number;
  device?: DevicePlanReport;
  memory?: MemoryReport;
}

/** Of `bytes`, as `serve` would begin with it. */
interface MemoryReport {
  bytes: number;
  /** What the sessions of all models take at most, the memory that they compute in included. */
  weights: number;
  /** Segments loaded at start; the others are loaded when a request needs them, and idle ones make room for them. */
  loaded_segments: number;
  left_for_kv: number;
  /** How many fit into `left_for_kv` when every sequence runs on the model whose tokens cost most. */
  tokens: number;
  /** The longest sequence of each model, weights of the others unloaded. */
  context_lengths: Record<string, number>;
}

export const planCommand = defineCommand<PlanOptions, PlanReport>({
  usage: "plan",
  summary: "what `serve` would load, and what stays for KV memory",
  options: [
    {
      flags: "--models <names>",
      help: "models to serve, with commas between them (default: all)",
      parse: nameList("--models"),
    },
    {
      flags: "--memory <size>",
      help: "what `serve` would do with so much memory for weights, activations and KV, like 8GB",
      parse: byteCount("--memory"),
    },
    PLANNED_DEVICE_OPTION,
    LANES_OPTION,
  ],
  examples: ["blockllm plan --memory 8GB", "blockllm plan --models support,legal --device webgpu --json"],
  async run({ repositoryPath }, _operands, options) {
    const repository = await openRepository(repositoryPath);
    const names = options.models ?? (await repository.listModels()).map(({ name }) => name);
    const all: Chain[] = [];
    for (const name of names) all.push(await resolveChain(repository, name));
    const { device } = options;
    const leftOut = device === undefined ? {} : await leftOutOn(device, all, repository);
    const chains = all.filter(({ name }) => !(name in leftOut));
    const plan = planChains((await refineChains(chains.filter(isBlockChain), repository)).chains);

    const own = device !== undefined && isWebgpu(device) ? graphicsMemory() : null;
    const memoryBytes = options.memory ?? own?.budgetBytes ?? null;
    const config = engineConfig({
      ...(memoryBytes === null ? {} : { memoryBytes }),
      ...(options.lanes === undefined ? {} : { lanes: options.lanes }),
      device: device === "cuda" ? "cuda:0" : (device ?? "cpu"),
    });
    const planned = { chains, plan, source: repository, config };
    return {
      ...(await report(planned)),
      ...(device === undefined ? {} : { device: await reportDevice(device, planned, leftOut) }),
      ...(memoryBytes === null ? {} : { memory: await reportMemory(planned) }),
    };
  },
  print: (plan) => [printModels(plan), "", printSums(plan)].join("\n"),
});

interface Planned {
  chains: Chain[];
  plan: Plan;
  source: BlockSource;
  config: EngineConfig;
}

/** An opaque model shares nothing. */
async function report({ chains, plan, source, config }: Planned): Promise<PlanReport> {
  const own = await ownBytes(plan, plannedBytes(source, config));
  const ownOf = new Map(plan.chains.map(({ chain: { key } }, index) => [key, own[index]!]));
  const models = chains.map((chain) => ({
    name: chain.name,
    bytes: weightBytes(chain),
    own_bytes: ownOf.get(chain.key) ?? weightBytes(chain),
    kv_bytes_per_token: kvBytesPerToken(chain, config.device),
  }));
  const opaque = chains.filter((chain) => chain.kind === "opaque");
  const bytes = plan.bytes + opaque.reduce((sum, chain) => sum + weightBytes(chain), 0);
  return {
    models,
    segments: plan.segments.map((segment) => describeSegment(segment, plan)),
    bytes,
    bytes_per_model_deployment: models.reduce((sum, model) => sum + model.bytes, 0),
  };
}

/** Of the model by itself, every blob once: a table tied to the head counts once. */
function weightBytes(chain: Chain): number {
  if (chain.kind === "blocks") return planChains([chain]).bytes;
  return chain.document.chain.reduce((sum, block) => sum + block.bytes, 0);
}

/** An opaque model's own past tensors are not counted. */
function kvBytesPerToken(chain: Chain, device: string): number {
  if (chain.kind === "opaque") return 0;
  return isWebgpu(device) ? deviceBytesPerToken(chain.cores) : keyValueBytesPerToken(chain);
}

function describeSegment(
  { id, parts, chains, bytes }: Plan["segments"][number],
  plan: Plan,
): PlanReport["segments"][number] {
  const models = chains.map((index) => plan.chains[index]!.chain.name);
  return { id, parts: parts.map((part) => part.label), models, bytes };
}

async function reportDevice(
  name: PlannedDevice,
  { plan, source, config }: Planned,
  leftOut: Record<string, string>,
): Promise<DevicePlanReport> {
  if (name !== "cuda") return { name, left_out: leftOut };
  return { name, left_out: leftOut, devices: await spreadOverCuda(plan, { bytesOf: plannedBytes(source, config) }) };
}

async function reportMemory({ chains, plan, source, config }: Planned): Promise<MemoryReport> {
  const division = await divideMemory(chains, plan, { config, source });
  const dearest = Math.max(1, ...chains.map((chain) => kvBytesPerToken(chain, config.device)));
  return {
    bytes: config.memoryBytes,
    weights: division.weightBytes,
    loaded_segments: division.loadedSegments,
    left_for_kv: division.kvBytes,
    tokens: Math.floor(division.kvBytes / dearest),
    context_lengths: Object.fromEntries(division.models.map(({ name, contextLength }) => [name, contextLength])),
  };
}

function printModels({ models }: PlanReport): string {
  return renderTable(
    [
      { head: "model" },
      { head: "weights", align: "right" },
      { head: "adds to the others", align: "right" },
      { head: "KV per token", align: "right" },
    ],
    models.map((model) => [
      model.name,
      ...[model.bytes, model.own_bytes, model.kv_bytes_per_token].map((bytes) => formatBytes(bytes)),
    ]),
  );
}

function printSums(plan: PlanReport): string {
  const facts: [string, string | number][] = [
    ["segments", plan.segments.length],
    ["weights loaded", formatBytes(plan.bytes)],
    ["one deployment per model", formatBytes(plan.bytes_per_model_deployment)],
    ["saved", formatPercent(1 - plan.bytes / Math.max(1, plan.bytes_per_model_deployment))],
  ];
  if (plan.memory !== undefined) {
    const { weights, loaded_segments: loaded, left_for_kv: left, tokens } = plan.memory;
    facts.push(
      ["sessions take", formatBytes(weights)],
      ["loaded at start", `${loaded} of ${formatCount(plan.segments.length, "segment")}`],
      ["left for KV", formatBytes(left)],
      ["tokens it holds", tokens],
    );
  }
  if (plan.device !== undefined) facts.push(...deviceFacts(plan.device));
  return renderFacts(facts);
}

function isBlockChain(chain: Chain): chain is BlockChain {
  return chain.kind === "blocks";
}
