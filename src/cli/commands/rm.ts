import { openRepository } from "../../store/open-repository.ts";
import { defineCommand } from "../command.ts";

interface Removed {
  removed: string;
  digest: string;
}

export const rmCommand = defineCommand<object, Removed>({
  usage: "rm <model>",
  summary: "forget a model; `gc` then frees the blocks nobody else uses",
  options: [],
  examples: ["blockllm rm support:v1", "blockllm rm support:v1 && blockllm gc"],
  async run({ repositoryPath }, [name = ""]) {
    const repository = await openRepository(repositoryPath);
    const entry = await repository.removeModel(name);
    return { removed: entry.name, digest: entry.digest };
  },
  print: ({ removed }) => `removed ${removed}; \`blockllm gc\` frees the blocks that no other model uses`,
});
