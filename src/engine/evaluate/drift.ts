/** How far a model's probabilities for the next token went from what they were, over the positions of its prompts. */
export interface Drift {
  prompts: number;
  /** Positions compared: of the prompts, and of the answers that the model itself gave them before. */
  tokens: number;
  /** Mean of KL(before ‖ after) over all positions, nats. */
  kl: number;
  /** The same over the positions that choose the tokens of answers. */
  kl_answers: number;
  /** The largest of all positions. */
  kl_worst: number;
  /** Mean cosine of the probabilities. */
  probability_cosine: number;
  /** Share of positions with the same likeliest token. */
  top1: number;
  top1_answers: number;
}

/** What a drift may be; a limit that is not given does not count. */
export interface DriftBudget {
  /** Mean KL in nats, over all positions and over those of answers: neither may be more. */
  max_kl?: number | undefined;
  /** Share of positions with the same likeliest token, of all and of answers: neither may be less. */
  min_top1?: number | undefined;
}

export function hasLimit({ max_kl, min_top1 }: DriftBudget): boolean {
  return max_kl !== undefined || min_top1 !== undefined;
}

/** What is no number is never within, whatever the limits. */
export function isWithin({ kl, kl_answers, top1, top1_answers }: Drift, { max_kl, min_top1 }: DriftBudget): boolean {
  const fewNats = Math.max(kl, kl_answers) <= (max_kl ?? Number.MAX_VALUE);
  return fewNats && (min_top1 === undefined || (top1 >= min_top1 && top1_answers >= min_top1));
}

/** How much of the budget a drift takes: above 1 it is not within. Where nothing is allowed, anything is infinitely much. */
export function shareOfBudget(drift: Drift, { max_kl, min_top1 }: DriftBudget): number {
  const share = (used: number, allowed: number): number => (used <= 0 ? 0 : used / allowed);
  const shares = [
    ...(max_kl === undefined ? [] : [drift.kl, drift.kl_answers].map((kl) => share(kl, max_kl))),
    ...(min_top1 === undefined ? [] : [drift.top1, drift.top1_answers].map((top1) => share(1 - top1, 1 - min_top1))),
  ];
  return shares.length === 0 ? drift.kl : Math.max(...shares);
}

/** Adds up positions of known number, so that it can tell early that a budget cannot be kept any more. */
export class DriftSum {
  readonly #planned: { prompts: number; tokens: number; answers: number };
  readonly #all = { kl: 0, same: 0, cosine: 0, count: 0 };
  readonly #answers = { kl: 0, same: 0, count: 0 };
  #worst = 0;

  constructor(planned: { prompts: number; tokens: number; answers: number }) {
    this.#planned = planned;
  }

  /** Logits [vocabulary] of one position. */
  add(before: Float32Array, after: Float32Array, choosesAnswer: boolean): void {
    const { kl, cosine } = compareProbabilities(before, after);
    const same = Number(indexOfMost(before) === indexOfMost(after));
    this.#all.kl += kl;
    this.#all.cosine += cosine;
    this.#all.same += same;
    this.#all.count++;
    // Once it is no number, it stays so.
    if (Number.isNaN(kl) || kl > this.#worst) this.#worst = kl;
    if (!choosesAnswer) return;
    this.#answers.kl += kl;
    this.#answers.same += same;
    this.#answers.count++;
  }

  /** Whatever the positions to come are like. */
  isBeyond({ max_kl = Infinity, min_top1 = 0 }: DriftBudget): boolean {
    const { tokens, answers } = this.#planned;
    const [all, chosen] = [this.#all, this.#answers];
    const mostNats = !(all.kl <= max_kl * tokens && chosen.kl <= max_kl * answers);
    return (
      mostNats ||
      all.count - all.same > (1 - min_top1) * tokens ||
      chosen.count - chosen.same > (1 - min_top1) * answers
    );
  }

  drift(): Drift {
    const [all, answers] = [this.#all, this.#answers];
    return {
      prompts: this.#planned.prompts,
      tokens: all.count,
      kl: all.kl / all.count,
      kl_answers: answers.kl / answers.count,
      kl_worst: this.#worst,
      probability_cosine: all.cosine / all.count,
      top1: all.same / all.count,
      top1_answers: answers.same / answers.count,
    };
  }
}

/** KL(softmax a ‖ softmax b) in nats, and the cosine of both; NaN where a logit is. */
export function compareProbabilities(a: Float32Array, b: Float32Array): { kl: number; cosine: number } {
  const [mostA, mostB] = [largest(a), largest(b)];
  let [sumA, sumB, sumAA, sumBB, sumAB, weighted] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [fromA, fromB] = [a[i]! - mostA, b[i]! - mostB];
    const [p, q] = [Math.exp(fromA), Math.exp(fromB)];
    sumA += p;
    sumB += q;
    sumAA += p * p;
    sumBB += q * q;
    sumAB += p * q;
    if (p > 0) weighted += p * (fromA - fromB);
  }
  const kl = weighted / sumA + Math.log(sumB) - Math.log(sumA);
  return { kl: Number.isNaN(kl) ? kl : Math.max(0, kl), cosine: sumAB / Math.sqrt(sumAA * sumBB) };
}

/** Mean and least cosine of rows [count, width]. Rows of zeros on both sides are equal. */
export function compareRows(a: Float32Array, b: Float32Array, width: number): { mean: number; least: number } {
  let [sum, least] = [0, Infinity];
  for (let start = 0; start < a.length; start += width) {
    let [aa, bb, ab] = [0, 0, 0];
    for (let i = start; i < start + width; i++) {
      aa += a[i]! * a[i]!;
      bb += b[i]! * b[i]!;
      ab += a[i]! * b[i]!;
    }
    const cosine = aa === 0 && bb === 0 ? 1 : ab / Math.sqrt(aa * bb || Number.MIN_VALUE);
    sum += cosine;
    least = Math.min(least, cosine);
  }
  return { mean: sum / (a.length / width), least };
}

function largest(values: Float32Array): number {
  let most = -Infinity;
  for (const value of values) if (value > most) most = value;
  return most;
}

function indexOfMost(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
