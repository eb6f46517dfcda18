import { type Chain, keyValueBytesPerToken } from "../../chain/chain.ts";
import { planChains, type Plan } from "../../chain/plan.ts";
import { refineChains } from "../../chain/refine-chains.ts";
import { resolveChain } from "../../chain/resolve-chain.ts";
import { openRepository } from "../../store/open-repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { formatBytes, formatPercent } from "../output/format.ts";
import { renderFacts, renderTable } from "../output/table.ts";
import { byteCount, commaSeparated } from "../parse-values.ts";

interface PlanOptions {
  models?: string[];
  memory?: number;
}

interface PlanReport {
  models: { name: string; bytes: number; kv_bytes_per_token: number }[];
  segments: { id: number; parts: string[]; models: string[]; bytes: number }[];
  /** Weights loaded once each, against once per model. */
  bytes: number;
  bytes_per_model_deployment: number;
  memory?: { bytes: number; left_for_kv: number; tokens: number };
}

export const planCommand = defineCommand<PlanOptions, PlanReport>({
  usage: "plan",
  summary: "what `serve` would load, and what stays for KV memory",
  options: [
    {
      flags: "--models <names>",
      help: "models to serve, with commas between them (default: all)",
      parse: commaSeparated,
    },
    { flags: "--memory <size>", help: "memory for weights and KV together, like 8GB", parse: byteCount("--memory") },
  ],
  examples: ["blockllm plan --memory 8GB", "blockllm plan --models support,legal --json"],
  async run({ repositoryPath }, _operands, options) {
    const repository = await openRepository(repositoryPath);
    const names = options.models ?? (await repository.listModels()).map(({ name }) => name);
    const chains = [];
    for (const name of names) chains.push(await resolveChain(repository, name));
    const { chains: refined } = await refineChains(
      chains.filter((chain) => chain.kind === "blocks"),
      repository,
    );
    return report(chains, planChains(refined), options.memory);
  },
  print: (plan) => [printModels(plan), "", printSums(plan)].join("\n"),
});

function report(chains: Chain[], plan: Plan, memory: number | undefined): PlanReport {
  const models = chains.map((chain) => ({
    name: chain.name,
    bytes: weightBytes(chain),
    kv_bytes_per_token: kvBytesPerToken(chain),
  }));
  const opaque = chains.filter((chain) => chain.kind === "opaque");
  const bytes = plan.bytes + opaque.reduce((sum, chain) => sum + weightBytes(chain), 0);
  return {
    models,
    segments: plan.segments.map((segment) => describeSegment(segment, plan)),
    bytes,
    bytes_per_model_deployment: models.reduce((sum, model) => sum + model.bytes, 0),
    ...(memory === undefined ? {} : { memory: divideMemory(memory, bytes, models) }),
  };
}

/** Of the model by itself, every blob once: a table tied to the head counts once. */
function weightBytes(chain: Chain): number {
  if (chain.kind === "blocks") return planChains([chain]).bytes;
  return chain.document.chain.reduce((sum, block) => sum + block.bytes, 0);
}

/** An opaque model's own past tensors are not counted. */
function kvBytesPerToken(chain: Chain): number {
  return chain.kind === "opaque" ? 0 : keyValueBytesPerToken(chain);
}

function describeSegment(
  { id, parts, chains, bytes }: Plan["segments"][number],
  plan: Plan,
): PlanReport["segments"][number] {
  const models = chains.map((index) => plan.chains[index]!.chain.name);
  return { id, parts: parts.map((part) => part.label), models, bytes };
}

/** `tokens`: how many fit when every sequence runs on the model whose tokens cost most. */
function divideMemory(
  memory: number,
  weights: number,
  models: PlanReport["models"],
): NonNullable<PlanReport["memory"]> {
  const left = memory - weights;
  if (left < 0) {
    throw new BlockllmError(
      "memory_exceeded",
      `the models need ${formatBytes(weights)}, --memory is ${formatBytes(memory)}`,
      {
        hint: "fewer --models, or more --memory",
      },
    );
  }
  const dearest = Math.max(1, ...models.map((model) => model.kv_bytes_per_token));
  return { bytes: memory, left_for_kv: left, tokens: Math.floor(left / dearest) };
}

function printModels({ models }: PlanReport): string {
  return renderTable(
    [{ head: "model" }, { head: "weights", align: "right" }, { head: "KV per token", align: "right" }],
    models.map((model) => [model.name, formatBytes(model.bytes), formatBytes(model.kv_bytes_per_token)]),
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
    facts.push(["left for KV", formatBytes(plan.memory.left_for_kv)], ["tokens it holds", plan.memory.tokens]);
  }
  return renderFacts(facts);
}
