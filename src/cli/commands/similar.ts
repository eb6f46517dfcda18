import { findSimilar, type SimilarBlocks } from "../../store/find-similar.ts";
import { openRepository } from "../../store/open-repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { printSimilar } from "../output/similar.ts";
import { wholeNumber } from "../parse-values.ts";

interface SimilarOptions {
  top?: number;
}

const DEFAULT_TOP = 10;

export const similarCommand = defineCommand<SimilarOptions, SimilarBlocks>({
  usage: "similar <block>",
  summary: "the blocks nearest to one, across the repository, and why",
  options: [
    {
      flags: "--top <count>",
      help: `how many (default ${DEFAULT_TOP})`,
      parse: wholeNumber("--top", 1, 1000),
    },
  ],
  examples: ["blockllm similar support:mlp.3", "blockllm similar base:embedding --top 3"],
  async run({ repositoryPath, signal, progress }, [address], { top = DEFAULT_TOP }) {
    if (address === undefined) throw new BlockllmError("usage", "no block is named");
    const repository = await openRepository(repositoryPath);
    let sketched = 0;
    const onProgress = ({ blocks, totalBlocks }: { blocks: number; totalBlocks: number }) => {
      if (sketched === 0) progress.start(`sketching ${totalBlocks} blocks`);
      else progress.update(`sketching block ${blocks} of ${totalBlocks}`);
      sketched = blocks;
    };
    const found = await findSimilar(repository, address, { top, signal, onProgress });
    if (sketched > 0) progress.succeed(`sketched ${sketched} blocks; the next time they are there`);
    return found;
  },
  print: printSimilar,
});
