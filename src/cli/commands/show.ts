import type { ModelDocument } from "../../store/model-document.ts";
import type { Origin } from "../../store/origin.ts";
import { openRepository } from "../../store/open-repository.ts";
import { type BlockSharing, type ModelSharing, sharingOf } from "../../store/sharing.ts";
import { defineCommand } from "../command.ts";
import { formatBytes, formatCount } from "../output/format.ts";
import { printBlocks, printMerges } from "../output/sharing.ts";
import { renderFacts } from "../output/table.ts";

interface ShowOptions {
  blocks?: boolean;
}

interface Shown {
  name: string;
  digest: string;
  family: string;
  exporter: string;
  precision: string;
  opaque: boolean;
  exact_only: boolean;
  layers: number;
  hidden_size: number | null;
  vocab_size: number;
  context_length: number | null;
  bytes: number;
  unique_bytes: number;
  blocks: BlockSharing[];
  files: ModelDocument["files"];
  recognised: string[];
  warnings: string[];
  /** null: the repository does not say, as after a copy through a registry. */
  source: Origin | null;
}

export const showCommand = defineCommand<ShowOptions, Shown>({
  usage: "show <model>",
  summary: "a model's chain, digests, sharing and origin",
  options: [{ flags: "--blocks", help: "every block with its digest and who shares it" }],
  examples: ["blockllm show support", "blockllm show support --blocks"],
  async run({ repositoryPath }, [name = ""]) {
    const repository = await openRepository(repositoryPath);
    const model = await repository.readModel(name);
    const [sharing] = (await sharingOf(repository, [model.name])) as [ModelSharing];
    const { document } = model;
    return {
      name: model.name,
      digest: model.digest,
      family: document.family,
      exporter: document.exporter,
      precision: document.precision,
      opaque: document.opaque,
      exact_only: document.exactOnly === true,
      layers: document.layers,
      hidden_size: document.hiddenSize,
      vocab_size: document.vocabSize,
      context_length: document.contextLength,
      bytes: sharing.bytes,
      unique_bytes: sharing.unique_bytes,
      blocks: sharing.blocks,
      files: document.files,
      recognised: document.recognised,
      warnings: document.warnings,
      source: model.origin,
    };
  },
  print: (shown, { blocks }) =>
    [printFacts(shown), ...(blocks ? [printBlocks(shown.blocks), ...printMerges(shown.blocks)] : [])].join("\n\n"),
});

function printFacts(shown: Shown): string {
  const merged = shown.blocks.filter(({ replaces }) => replaces !== undefined).length;
  const sharedBlocks = shown.blocks.filter(({ shared_with }) => shared_with.length > 0).length;
  return renderFacts([
    ["model", shown.name],
    ["digest", shown.digest],
    [
      "family",
      `${shown.family}, ${formatCount(shown.layers, "layer")}, hidden ${shown.hidden_size ?? "?"}, vocabulary ${shown.vocab_size}`,
    ],
    ["context", shown.context_length === null ? "not said" : `${shown.context_length} tokens`],
    ["exporter", `${shown.exporter}, ${shown.precision}`],
    ["from", shown.source === null ? "not said" : `${shown.source.folder}, ${shown.source.graph}`],
    ["size", `${formatBytes(shown.bytes)}, ${formatBytes(shown.unique_bytes)} its own`],
    ["blocks", shown.opaque ? "opaque: kept whole" : `${shown.blocks.length}, ${sharedBlocks} shared`],
    ...(merged === 0 ? [] : [["merged", `${formatCount(merged, "block")}: see --blocks`] satisfies [string, string]]),
    ...(shown.exact_only ? [["exact only", "no merge that changes numbers"] satisfies [string, string]] : []),
    ["files", shown.files.map(({ name }) => name).join(", ")],
    ...shown.recognised.map((sentence): [string, string] => ["recognised", sentence]),
    ...shown.warnings.map((sentence): [string, string] => ["warning", sentence]),
  ]);
}
