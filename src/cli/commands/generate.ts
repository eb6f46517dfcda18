import { engineConfig } from "../../engine/engine-config.ts";
import { startEngine } from "../../engine/engine-client.ts";
import { openRepository } from "../../store/open-repository.ts";
import { loadTextModels } from "../../text/load-text-model.ts";
import type { DeviceWish } from "../../engine/device/device.ts";
import { defineCommand } from "../command.ts";
import { DEVICE_OPTION, noteDevice } from "../device-option.ts";
import { type Completion, completeOnce } from "../complete-once.ts";
import { oneOf, realNumber, tokenIds, wholeNumber } from "../parse-values.ts";
import { encodeChosenPrompt, type PromptOptions } from "../prompt.ts";

interface GenerateOptions extends PromptOptions {
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  seed?: number;
  stop?: string;
  logprobs?: number;
  device?: DeviceWish;
  speculate?: "auto" | "off";
}

export const generateCommand = defineCommand<GenerateOptions, Completion | undefined>({
  usage: "generate <model>",
  summary: "one completion, streamed",
  options: [
    { flags: "--prompt <text>", help: "the text to go on with" },
    { flags: "--messages <file>", help: 'a chat as JSON: [{"role": "user", "content": "..."}]' },
    { flags: "--tokens <ids>", help: "the prompt as token ids, with commas between them", parse: tokenIds("--tokens") },
    {
      flags: "--max-tokens <count>",
      help: "at most so many new tokens (default: what fits)",
      parse: wholeNumber("--max-tokens", 1),
    },
    {
      flags: "--temperature <number>",
      help: "0: always the likeliest token (default: 0)",
      parse: realNumber("--temperature", 0, 2),
    },
    { flags: "--top-k <count>", help: "only the k likeliest tokens", parse: wholeNumber("--top-k", 1) },
    {
      flags: "--top-p <share>",
      help: "only the likeliest tokens that together have this probability",
      parse: realNumber("--top-p", 0, 1),
    },
    { flags: "--seed <number>", help: "the same seed gives the same tokens", parse: wholeNumber("--seed", 0) },
    { flags: "--stop <text>", help: "end before this text" },
    {
      flags: "--logprobs <count>",
      help: "log-probability of each token, and of so many likeliest ones",
      parse: wholeNumber("--logprobs", 0, 20),
    },
    DEVICE_OPTION,
    {
      flags: "--speculate <when>",
      help: `auto: guess repeated text ahead where that is measured to pay; off (default: ${engineConfig().speculate})`,
      parse: oneOf("--speculate", ["auto", "off"]),
    },
  ],
  examples: [
    'blockllm generate support --prompt "ticket : the printer remains late =>" --max-tokens 6',
    "blockllm generate hr --messages chat.json --temperature 0.8 --seed 7",
  ],
  async run(context, [name = ""], options) {
    const repository = await openRepository(context.repositoryPath);
    const { name: canonicalName, document } = await repository.readModel(name);
    const text = (await loadTextModels(repository, new Map([[canonicalName, document]]))).get(canonicalName) ?? null;
    const prompt = await encodeChosenPrompt(options, text);
    const engine = await startEngine({
      repository: context.repositoryPath,
      models: [canonicalName],
      signal: context.signal,
      ...(options.device === undefined ? {} : { device: options.device }),
      ...(options.speculate === undefined ? {} : { speculate: options.speculate }),
    });
    noteDevice(engine, context.progress);
    try {
      const completion = await completeOnce(engine, {
        model: engine.models[0]!,
        text,
        prompt,
        maxTokens: options.maxTokens ?? null,
        logprobs: options.logprobs ?? null,
        sampling: samplingOf(options),
        signal: context.signal,
        onText: context.json ? () => {} : context.write,
      });
      if (!context.json) context.write("\n");
      return context.json ? completion : undefined;
    } finally {
      await engine.close();
    }
  },
});

/** In OpenAI's words, and greedy unless said otherwise: a shell command repeats itself. */
function samplingOf({ temperature = 0, topK, topP, seed, stop }: GenerateOptions) {
  return { temperature, top_k: topK ?? null, top_p: topP ?? null, seed: seed ?? null, stop: stop ?? null };
}
