/** Who asked for which model. A tenant of its own is "" where there are no tenants. */
export interface Pair {
  tenant: string;
  model: string;
}

/** What stands for all pairs that have no series of their own. No tenant or model can be called so. */
const OTHERS = "(others)";

/**
 * Keeps the series of metrics bounded, whatever an operator's file and a day of changing models bring: the first `limit`
 * pairs have their own, later ones are counted together, by model for as many models again.
 */
export class LabelPairs {
  readonly #limit: number;
  readonly #own = new Set<string>();
  readonly #models = new Set<string>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  of({ tenant, model }: Pair): Pair {
    if (has(this.#own, `${tenant} ${model}`, this.#limit)) return { tenant, model };
    return { tenant: OTHERS, model: has(this.#models, model, this.#limit) ? model : OTHERS };
  }
}

/** Takes it in while there is room. */
function has(known: Set<string>, key: string, limit: number): boolean {
  if (known.size < limit) known.add(key);
  return known.has(key);
}
