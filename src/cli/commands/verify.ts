import { linesFor } from "../../engine/evaluate/choose-models.ts";
import { driftFromSplit, type MergedDrift } from "../../engine/evaluate/drift-from-split.ts";
import { isWithin } from "../../engine/evaluate/drift.ts";
import { ANSWER_TOKENS, type Asking, encodeLine } from "../../engine/evaluate/measured-model.ts";
import { type CalibrationFile, readCalibration } from "../../engine/evaluate/read-calibration.ts";
import { defaultPrompts, type Verification, verifyModel } from "../../engine/verify-model.ts";
import { openRepository } from "../../store/open-repository.ts";
import type { Repository, StoredModel } from "../../store/repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { loadTextModel } from "../../text/load-text-model.ts";
import { encodePrompt, type TextModel } from "../../text/text-model.ts";
import type { DeviceWish } from "../../engine/device/device.ts";
import { defineCommand } from "../command.ts";
import { DEVICE_OPTION } from "../device-option.ts";
import { printVerification } from "../output/verification.ts";
import { calibrationFiles, realNumber, tokenIds } from "../parse-values.ts";
import { readPromptFile } from "../prompt.ts";

interface VerifyOptions {
  against?: string;
  adapter?: string;
  prompts?: string;
  tokens?: number[];
  calibration?: CalibrationFile[];
  maxKl?: number;
  minTop1?: number;
  device?: DeviceWish;
}

export interface Verified extends Verification {
  /** What the model's merges cost: itself against itself as it was split; null where nothing is merged. */
  drift: MergedDrift | null;
  /** Whether the drift is within what was asked for; absent where nothing was. */
  gate?: { passed: boolean; max_kl?: number; min_top1?: number };
}

export const verifyCommand = defineCommand<VerifyOptions, Verified>({
  usage: "verify <model>",
  summary: "run the chain of blocks against the whole model, hash every blob of it again, and measure what merges cost",
  options: [
    { flags: "--against <path>", help: "the model as it came (default: the blocks joined to one graph)" },
    { flags: "--adapter <file>", help: "the .onnx_adapter to bind in that model (default: the only one beside it)" },
    { flags: "--prompts <file>", help: 'texts to compare on: JSON or JSON lines, of strings or {"prompt": ...}' },
    { flags: "--tokens <ids>", help: "token ids to compare on, with commas between them", parse: tokenIds("--tokens") },
    {
      flags: "--calibration <file>",
      help: "prompts to measure the cost of merges on, as `dedupe` takes them, with answers where there are any",
      parse: calibrationFiles,
    },
    {
      flags: "--max-kl <nats>",
      help: "exit with 3 when merges cost more: mean KL from the model as split",
      parse: realNumber("--max-kl", 0, 100),
    },
    {
      flags: "--min-top1 <share>",
      help: "exit with 3 when fewer positions keep their likeliest token",
      parse: realNumber("--min-top1", 0, 1),
    },
    DEVICE_OPTION,
  ],
  examples: [
    "blockllm verify support",
    "blockllm verify support --against ./support-bot --prompts questions.jsonl",
    "blockllm verify support --calibration questions.jsonl --max-kl 0.02",
  ],
  async run({ repositoryPath, progress, signal }, [name = ""], options) {
    if (options.adapter !== undefined && options.against === undefined) {
      throw new BlockllmError("usage", "--adapter is for the model that --against names", {
        hint: "leave it out: the model's own adapter is in its blocks",
      });
    }
    const repository = await openRepository(repositoryPath);
    const model = await repository.readModel(name);
    const prompts = await choosePrompts(repository, model, options);
    progress.start(`comparing ${name} with ${options.against ?? "its blocks joined to one graph"}`);
    const verification = await verifyModel(repository, name, {
      signal,
      ...(options.against === undefined ? {} : { against: options.against }),
      ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
      ...(prompts === undefined ? {} : { prompts }),
      ...(options.device === undefined ? {} : { device: options.device }),
    });
    for (const warning of verification.device_warnings) progress.note(`warning: ${warning}`);
    progress.update(`comparing ${name} with itself as it was split`);
    const asked = await chooseQuestions(repository, model, { files: options.calibration, prompts, signal });
    const drift = await driftFromSplit(repository, model, { ...asked, signal });
    progress.succeed(`compared ${verification.tokens} positions, hashed ${verification.blobs_checked} blobs`);
    return { ...verification, drift, ...judgeDrift(drift, options) };
  },
  print: printVerification,
  verdict({ passed, model, against, gate, drift }) {
    if (!passed) {
      return new BlockllmError("verify_failed", `the chain of ${model} does not compute what ${against} computes`, {
        ...(drift && { hint: `${drift.merged_blocks} of its blocks are merged: blockllm dedupe --undo ${model}` }),
      });
    }
    if (gate === undefined || gate.passed) return null;
    if (drift !== null && drift.without_originals > 0) {
      return new BlockllmError(
        "gate_not_met",
        `what merges of ${model} cost cannot be measured: ${drift.without_originals} originals were not kept`,
        { hint: `split ${model} again to have them back` },
      );
    }
    return new BlockllmError("gate_not_met", `merges of ${model} cost more than was asked for`, {
      hint: `blockllm dedupe --undo ${model}`,
    });
  },
});

async function choosePrompts(
  repository: Repository,
  { document }: StoredModel,
  { prompts, tokens }: VerifyOptions,
): Promise<number[][] | undefined> {
  if (prompts !== undefined && tokens !== undefined) {
    throw new BlockllmError("usage", "--prompts and --tokens are both given; it can be one");
  }
  if (prompts === undefined) return tokens === undefined ? undefined : [tokens];
  const text = await loadTextModel(repository, document);
  return (await readPromptFile(prompts)).map((prompt) => encodePrompt(text, prompt));
}

/** Of the calibration, else those that the chain was compared on. */
async function chooseQuestions(
  repository: Repository,
  { name, document }: StoredModel,
  {
    files,
    prompts,
    signal,
  }: { files: CalibrationFile[] | undefined; prompts: number[][] | undefined; signal: AbortSignal },
): Promise<{ questions: Asking[]; text: TextModel | null }> {
  if (files === undefined) {
    const given = prompts ?? defaultPrompts(document.vocabSize, document.contextLength);
    return { questions: given.map((tokens) => ({ tokens, expected: null, limit: ANSWER_TOKENS })), text: null };
  }
  const text = await loadTextModel(repository, document);
  const { lines } = linesFor(await readCalibration(files, signal), name);
  if (lines.length === 0) throw new BlockllmError("usage", `--calibration: no line is for ${name}`);
  return { questions: lines.map((line) => encodeLine(line, { name, document, text })), text };
}

function judgeDrift(
  drift: MergedDrift | null,
  { maxKl: max_kl, minTop1: min_top1 }: VerifyOptions,
): Pick<Verified, "gate"> {
  if (max_kl === undefined && min_top1 === undefined) return {};
  const limits = { ...(max_kl === undefined ? {} : { max_kl }), ...(min_top1 === undefined ? {} : { min_top1 }) };
  // What cannot be measured any more is not known to be within.
  const passed = drift === null || (drift.without_originals === 0 && isWithin(drift, limits));
  return { gate: { passed, ...limits } };
}
