import { randomInt } from "node:crypto";
import { BlockllmError } from "../../support/errors.ts";
import type { SampledToken, Sampling } from "../request.ts";
import { candidates, draw, topTokens } from "./candidates.ts";
import { SeededRandom } from "./random.ts";

const DEFAULT_SAMPLING: Omit<Sampling, "seed"> = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logprobs: null,
};

/** Logits → token for one sequence. Its draws depend on its seed and its own tokens, on nothing else in the batch. */
export class Sampler {
  readonly #sampling: Sampling;
  readonly #random: SeededRandom;
  readonly #seen: Set<number>;
  readonly #generated = new Map<number, number>();

  constructor(sampling: Partial<Sampling>, prompt: readonly number[]) {
    this.#sampling = { ...DEFAULT_SAMPLING, seed: sampling.seed ?? randomInt(2 ** 47), ...sampling };
    this.#random = new SeededRandom(this.#sampling.seed);
    this.#seen = new Set(this.#sampling.repetitionPenalty === 1 ? [] : prompt);
  }

  /** Draws the next token from float32 logits [vocabulary]; they are not changed. Error: engine_failed if all are NaN. */
  sample(logits: Float32Array): SampledToken {
    const adjusted = this.#penalised(logits);
    const token = this.#sampling.temperature > 0 ? this.#draw(adjusted) : likeliest(adjusted);
    this.#generated.set(token, (this.#generated.get(token) ?? 0) + 1);
    if (this.#sampling.repetitionPenalty !== 1) this.#seen.add(token);
    return this.#sampling.logprobs === null ? { token } : withLogprobs(token, logits, this.#sampling.logprobs);
  }

  #draw(logits: Float32Array): number {
    likeliest(logits);
    return draw(candidates(logits, this.#sampling), this.#random.next());
  }

  #penalised(logits: Float32Array): Float32Array {
    const { presencePenalty, frequencyPenalty, repetitionPenalty } = this.#sampling;
    if (presencePenalty === 0 && frequencyPenalty === 0 && repetitionPenalty === 1) return logits;
    const adjusted = logits.slice();
    for (const token of this.#seen) {
      const logit = adjusted[token]!;
      adjusted[token] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    }
    for (const [token, count] of this.#generated) {
      adjusted[token] = adjusted[token]! - presencePenalty - frequencyPenalty * count;
    }
    return adjusted;
  }
}

/** The lowest token id of the highest logit. */
export function likeliest(logits: Float32Array): number {
  let best = -1;
  let highest = -Infinity;
  for (let token = 0; token < logits.length; token++) {
    if (logits[token]! > highest) {
      highest = logits[token]!;
      best = token;
    }
  }
  if (best === -1) throw new BlockllmError("engine_failed", `None of the model's ${logits.length} logits is a number`);
  return best;
}

function withLogprobs(token: number, logits: Float32Array, count: number): SampledToken {
  const normaliser = logSumExp(logits);
  const logprob = (of: number): number => logits[of]! - normaliser;
  return {
    token,
    logprob: logprob(token),
    topLogprobs: topTokens(logits, count).map((of) => ({ token: of, logprob: logprob(of) })),
  };
}

function logSumExp(logits: Float32Array): number {
  const highest = logits[likeliest(logits)]!;
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - highest);
  return highest + Math.log(total);
}
