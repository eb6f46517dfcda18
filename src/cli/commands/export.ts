import { type ExportedModel, exportModel } from "../../chain/export-model.ts";
import { openRepository } from "../../store/open-repository.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../output/format.ts";

export const exportCommand = defineCommand<object, ExportedModel>({
  usage: "export <model> <folder>",
  summary: "put a model together again as a folder that ONNX Runtime runs",
  options: [],
  examples: ["blockllm export support ./support-again"],
  async run({ repositoryPath, signal, progress }, [name = "", folder = ""]) {
    const repository = await openRepository(repositoryPath);
    progress.start(`writing ${name} to ${folder}`);
    const exported = await exportModel(repository, name, folder, { signal });
    progress.succeed(`wrote ${formatBytes(exported.bytes)}`);
    return exported;
  },
  print: ({ model, folder, files }) => `${model} is in ${folder}: ${files.join(", ")}`,
});
