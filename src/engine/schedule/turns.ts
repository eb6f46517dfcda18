/** Someone with work to do. */
export interface Turn {
  tenant: string;
  /** Who came first has the lower id. */
  id: number;
  /** Its class as it stands now; 0 goes first. */
  rank: number;
  /** ms since 1970: within a tenant and rank, who is due first goes first. */
  due: number;
}

/**
 * Who goes next: the lowest rank; in it the tenant that has been served least; within the tenant who is due first. What is
 * handed out counts at once, so equal tenants alternate. `served` is not changed; it and `cost` are in tokens over
 * weight. (Virtual token counters, arXiv 2401.00588.)
 */
export function* inTurns<Candidate extends Turn>(
  candidates: readonly Candidate[],
  served: (tenant: string) => number,
  cost: (candidate: Candidate) => number,
): Generator<Candidate> {
  const handedOut = new Map<string, number>();
  for (const equals of byRank(candidates)) {
    const queues = queuesOf(equals);
    const counted = new Map(
      [...queues.keys()].map((tenant) => [tenant, served(tenant) + (handedOut.get(tenant) ?? 0)]),
    );
    while (counted.size > 0) {
      const tenant = leastServed(counted, queues);
      const candidate = queues.get(tenant)!.pop()!;
      const tokens = cost(candidate);
      handedOut.set(tenant, (handedOut.get(tenant) ?? 0) + tokens);
      if (queues.get(tenant)!.length === 0) counted.delete(tenant);
      else counted.set(tenant, counted.get(tenant)! + tokens);
      yield candidate;
    }
  }
}

function byRank<Candidate extends Turn>(candidates: readonly Candidate[]): Candidate[][] {
  const ranks = new Map<number, Candidate[]>();
  for (const candidate of candidates) {
    const equals = ranks.get(candidate.rank) ?? [];
    ranks.set(candidate.rank, equals);
    equals.push(candidate);
  }
  return [...ranks].toSorted(([a], [b]) => a - b).map(([, equals]) => equals);
}

/** Per tenant, who goes first last. */
function queuesOf<Candidate extends Turn>(candidates: readonly Candidate[]): Map<string, Candidate[]> {
  const queues = new Map<string, Candidate[]>();
  for (const candidate of candidates.toSorted((a, b) => b.due - a.due || b.id - a.id)) {
    const queue = queues.get(candidate.tenant) ?? [];
    queues.set(candidate.tenant, queue);
    queue.push(candidate);
  }
  return queues;
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
