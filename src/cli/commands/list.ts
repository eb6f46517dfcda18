import type { Digest } from "../../blocks/block.ts";
import { openRepository } from "../../store/open-repository.ts";
import { readModels } from "../../store/sharing.ts";
import { countStorage } from "../../store/storage-accounts.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../output/format.ts";
import { renderTable } from "../output/table.ts";

interface ModelList {
  models: {
    name: string;
    digest: Digest;
    family: string;
    exporter: string;
    precision: string;
    layers: number;
    blocks: number;
    opaque: boolean;
    bytes: number;
  }[];
}

export const listCommand = defineCommand<object, ModelList>({
  usage: "list",
  summary: "the models in the repository",
  options: [],
  examples: ["blockllm list", "blockllm list --json"],
  async run({ repositoryPath }) {
    const repository = await openRepository(repositoryPath);
    const stored = await readModels(repository);
    const { logical } = await countStorage(repository, stored);
    const models = stored.map(({ name, digest, document }) => {
      const { family, exporter, precision, layers, opaque, chain } = document;
      const bytes = logical.get(name)!;
      return { name, digest, family, exporter, precision, layers, blocks: chain.length, opaque, bytes };
    });
    return { models };
  },
  print({ models }) {
    if (models.length === 0) return "no models yet: `blockllm split <folder>` adds one";
    const columns = [
      { head: "model" },
      { head: "family" },
      { head: "exporter" },
      { head: "precision" },
      { head: "layers", align: "right" as const },
      { head: "blocks", align: "right" as const },
      { head: "size", align: "right" as const },
    ];
    return renderTable(
      columns,
      models.map((model) => [
        model.name,
        model.family,
        model.exporter,
        model.precision,
        model.layers,
        model.opaque ? "opaque" : model.blocks,
        formatBytes(model.bytes),
      ]),
    );
  },
});
