import { drawLength, type LengthDistribution } from "./lengths.ts";
import { zipfRanks } from "./popularity.ts";
import { RandomStream } from "./random-stream.ts";

/** One request, as every target is asked it. */
export interface Question {
  index: number;
  tenant: number;
  model: string;
  /** Token ids. */
  prompt: number[];
  maxTokens: number;
  temperature: number;
  seed: number;
}

/** What the questions of a run are drawn from. */
export interface QuestionMix {
  seed: number;
  /** Each asks one model; first the one that asks most. */
  tenants: readonly { model: string }[];
  /** Exponent of Zipf's law over the tenants; 0: all ask alike. */
  zipf: number;
  prompt: LengthDistribution;
  output: LengthDistribution;
  /** So many first tokens are the same in all prompts of a tenant, as a system prompt is. */
  sharedPrefix: number;
  temperature: number;
  /** Prompts are drawn from token ids below this. */
  vocabulary: number;
  /** Prompt and answer together; longer prompts are cut, then answers. */
  contextLength: number;
}

/** Most vocabularies begin with control tokens (padding, begin, end). */
const FIRST_TOKEN = 3;
/** Stream 0 of a seed has the arrivals, then come the tenants' prefixes, then the questions. */
const FIRST_TENANT_STREAM = 1;
const FIRST_QUESTION_STREAM = 1_000_000;

/** The questions of a run by number: each depends on the mix and its number alone. */
export function questionSource(mix: QuestionMix): (index: number) => Question {
  const rankOf = zipfRanks(mix.tenants.length, mix.zipf);
  return (index) => {
    const random = new RandomStream(mix.seed, FIRST_QUESTION_STREAM + index);
    const tenant = rankOf(random.uniform());
    const maxTokens = Math.min(drawLength(mix.output, random), mix.contextLength - 1);
    const promptLength = Math.min(drawLength(mix.prompt, random), mix.contextLength - maxTokens);
    return {
      index,
      tenant,
      model: mix.tenants[tenant]!.model,
      prompt: [
        ...drawTokens(Math.min(mix.sharedPrefix, promptLength), {
          mix,
          random: new RandomStream(mix.seed, FIRST_TENANT_STREAM + tenant),
        }),
        ...drawTokens(promptLength - Math.min(mix.sharedPrefix, promptLength), { mix, random }),
      ],
      maxTokens,
      temperature: mix.temperature,
      seed: random.whole(0, 2 ** 31 - 1),
    };
  };
}

function drawTokens(count: number, { mix, random }: { mix: QuestionMix; random: RandomStream }): number[] {
  return Array.from({ length: count }, () =>
    random.whole(Math.min(FIRST_TOKEN, mix.vocabulary - 1), mix.vocabulary - 1),
  );
}
