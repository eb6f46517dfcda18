/** Someone with work to do. */
export interface Turn {
  tenant: string;
  /** Who came first has the lower id. */
  id: number;
}

/**
 * Who goes next: the tenant that has been served the fewest tokens, within it who came first. What is handed out counts
 * at once, so equal tenants alternate. `served` is not changed; `cost` is in tokens. (Virtual token counters,
 * arXiv 2401.00588.)
 */
export function* inTurns<Candidate extends Turn>(
  candidates: readonly Candidate[],
  served: (tenant: string) => number,
  cost: (candidate: Candidate) => number,
): Generator<Candidate> {
  const queues = new Map<string, Candidate[]>();
  for (const candidate of candidates.toSorted((a, b) => b.id - a.id)) {
    const queue = queues.get(candidate.tenant) ?? [];
    queues.set(candidate.tenant, queue);
    queue.push(candidate);
  }
  const counted = new Map([...queues.keys()].map((tenant) => [tenant, served(tenant)]));
  while (counted.size > 0) {
    const tenant = leastServed(counted, queues);
    const candidate = queues.get(tenant)!.pop()!;
    if (queues.get(tenant)!.length === 0) counted.delete(tenant);
    else counted.set(tenant, counted.get(tenant)! + cost(candidate));
    yield candidate;
  }
}

/** Of equals, the one whose first candidate came first. */
function leastServed(counted: Map<string, number>, queues: Map<string, Turn[]>): string {
  let best: { tenant: string; tokens: number; first: number } | undefined;
  for (const [tenant, tokens] of counted) {
    const first = queues.get(tenant)!.at(-1)!.id;
    if (!best || tokens < best.tokens || (tokens === best.tokens && first < best.first))
      best = { tenant, tokens, first };
  }
  return best!.tenant;
}

/** Tokens each tenant has been served, comparable between tenants that want something now. */
export class TokenCounters {
  readonly #served = new Map<string, number>();

  served(tenant: string): number {
    return this.#served.get(tenant) ?? 0;
  }

  charge(tenant: string, tokens: number): void {
    this.#served.set(tenant, this.served(tenant) + tokens);
  }

  /**
   * A tenant that begins to want something starts no lower than the least served of `active`: having been idle is no
   * claim. Tenants below that level are forgotten; they would be lifted to it anyway.
   */
  enter(tenant: string, active: ReadonlySet<string>): void {
    if (active.has(tenant)) return;
    const level = active.size === 0 ? 0 : Math.min(...[...active].map((other) => this.served(other)));
    for (const [other, tokens] of this.#served) {
      if (!active.has(other) && (tokens <= level || active.size === 0)) this.#served.delete(other);
    }
    this.#served.set(tenant, Math.max(level, this.served(tenant)));
  }
}
