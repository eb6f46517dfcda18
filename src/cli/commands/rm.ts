import { openRepository } from "../../store/open-repository.ts";
import { type RemovalReceipt, removeWithReceipt } from "../../store/removal-receipt.ts";
import { defineCommand } from "../command.ts";
import { formatBytes, formatCount } from "../output/format.ts";

/** So many of those that keep something alive are named. */
const NAMED = 5;

export const rmCommand = defineCommand<object, RemovalReceipt>({
  usage: "rm <model>",
  summary: "forget a model and say what survives it; `gc` then frees the blocks nobody else uses",
  options: [],
  examples: ["blockllm rm support:v1", "blockllm rm support:v1 && blockllm gc"],
  async run({ repositoryPath }, [name = ""]) {
    return await removeWithReceipt(await openRepository(repositoryPath), name);
  },
  print: ({ removed, frees, survives }) => {
    const freed = `removed ${removed}; \`blockllm gc\` frees ${describe(frees)} that only it needed`;
    if (survives.blobs === 0) return freed;
    const [named, more] = [survives.because.slice(0, NAMED), survives.because.length - NAMED];
    const reasons = named.map(({ model, bytes }) => `${model} (${formatBytes(bytes)})`);
    const others = more > 0 ? [`${more} more`] : [];
    return `${freed}\nkept: ${describe(survives)}, needed by ${[...reasons, ...others].join(", ") || "other manifests"}`;
  },
});

function describe({ blobs, bytes }: { blobs: number; bytes: number }): string {
  return `${formatBytes(bytes)} in ${formatCount(blobs, "blob")}`;
}
