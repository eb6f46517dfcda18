import { type Verification, verifyModel } from "../../engine/verify-model.ts";
import { openRepository } from "../../store/open-repository.ts";
import type { Repository } from "../../store/repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { loadTextModel } from "../../text/load-text-model.ts";
import { encodePrompt } from "../../text/text-model.ts";
import { defineCommand } from "../command.ts";
import { formatNumber, formatPercent } from "../output/format.ts";
import { renderFacts } from "../output/table.ts";
import { tokenIds } from "../parse-values.ts";
import { readPromptFile } from "../prompt.ts";

interface VerifyOptions {
  against?: string;
  prompts?: string;
  tokens?: number[];
}

export const verifyCommand = defineCommand<VerifyOptions, Verification>({
  usage: "verify <model>",
  summary: "run the chain of blocks against the whole model, and hash every blob of it again",
  options: [
    { flags: "--against <path>", help: "the model as it came (default: the blocks joined to one graph)" },
    { flags: "--prompts <file>", help: 'texts to compare on: JSON or JSON lines, of strings or {"prompt": ...}' },
    { flags: "--tokens <ids>", help: "token ids to compare on, with commas between them", parse: tokenIds("--tokens") },
  ],
  examples: ["blockllm verify support", "blockllm verify support --against ./support-bot --prompts questions.jsonl"],
  async run({ repositoryPath, progress, signal }, [name = ""], options) {
    const repository = await openRepository(repositoryPath);
    const prompts = await choosePrompts(repository, name, options);
    progress.start(`comparing ${name} with ${options.against ?? "its blocks joined to one graph"}`);
    const verification = await verifyModel(repository, name, {
      signal,
      ...(options.against === undefined ? {} : { against: options.against }),
      ...(prompts === undefined ? {} : { prompts }),
    });
    progress.succeed(`compared ${verification.tokens} positions, hashed ${verification.blobs_checked} blobs`);
    return verification;
  },
  print: (verification) =>
    renderFacts([
      ["model", verification.model],
      ["against", verification.against],
      ["largest logit difference", describeDifference(verification)],
      ["KL divergence", `${formatNumber(verification.kl)} nats`],
      ["same likeliest token", `${formatPercent(verification.top1)} of ${verification.tokens} positions`],
      ["greedy tokens", verification.greedy_equal ? "the same" : "different"],
      ["blobs hashed", verification.blobs_checked],
      ["verdict", verification.passed ? "passed" : "NOT PASSED"],
    ]),
  verdict({ passed, model, against }) {
    if (passed) return null;
    return new BlockllmError("verify_failed", `the chain of ${model} does not compute what ${against} computes`);
  },
});

async function choosePrompts(
  repository: Repository,
  name: string,
  { prompts, tokens }: VerifyOptions,
): Promise<number[][] | undefined> {
  if (prompts !== undefined && tokens !== undefined) {
    throw new BlockllmError("usage", "--prompts and --tokens are both given; it can be one");
  }
  if (prompts === undefined) return tokens === undefined ? undefined : [tokens];
  const { document } = await repository.readModel(name);
  const text = await loadTextModel(repository, document);
  return (await readPromptFile(prompts)).map((prompt) => encodePrompt(text, prompt));
}

function describeDifference({ max_abs_logit_diff, limit }: Verification): string {
  const allowed =
    limit.max_abs_logit_diff === null ? "not limited at this precision" : `limit ${limit.max_abs_logit_diff}`;
  return `${formatNumber(max_abs_logit_diff)} (${allowed})`;
}
