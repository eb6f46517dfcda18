/** Tokens each tenant has been served, divided by its weight; comparable between tenants that want something now. */
export class TokenCounters {
  readonly #served = new Map<string, number>();

  served(tenant: string): number {
    return this.#served.get(tenant) ?? 0;
  }

  charge(tenant: string, tokens: number): void {
    this.#served.set(tenant, this.served(tenant) + tokens);
  }

  /**
   * A tenant that begins to want something starts no lower than the least served of its `equals`: having been idle is no
   * claim. Idle tenants below all that are `active` are forgotten; they would be lifted anyway.
   */
  enter(tenant: string, { active, equals }: { active: ReadonlySet<string>; equals: Iterable<string> }): void {
    if (active.has(tenant)) return;
    const least = Math.min(...[...active].map((other) => this.served(other)));
    for (const [other, tokens] of this.#served) {
      if (!active.has(other) && tokens <= least) this.#served.delete(other);
    }
    this.lift(tenant, equals);
  }

  /** A tenant that comes to compete with `others` starts no lower than the least served of them. */
  lift(tenant: string, others: Iterable<string>): void {
    const level = Math.min(...[...others].map((other) => this.served(other)));
    if (Number.isFinite(level)) this.#served.set(tenant, Math.max(level, this.served(tenant)));
  }
}
