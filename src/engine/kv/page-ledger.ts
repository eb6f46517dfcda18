import type { MemoryBudget } from "../memory/memory-budget.ts";

/** Tokens per page; a page spans all layers of a chain, so its bytes depend on the chain. */
export const PAGE_TOKENS = 16;

export function pagesFor(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS);
}

/** Who holds how much of the budget. Work is scheduled only on pages that were claimed here first. */
export class PageLedger {
  readonly #budget: MemoryBudget;
  readonly #held = new Map<number, { pages: number; pageBytes: number }>();

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
  }

  get freeBytes(): number {
    return this.#budget.free("kv");
  }

  get heldPages(): number {
    return [...this.#held.values()].reduce((sum, { pages }) => sum + pages, 0);
  }

  /** Changes nothing: would `claim` with the same arguments fit? */
  canClaim(claim: PageClaim): boolean {
    return this.missingBytes(claim) <= this.freeBytes;
  }

  /** Makes `holder` hold pages for `tokens`; never fewer than before. Ask `canClaim` first. */
  claim(claim: PageClaim): void {
    const missing = this.missingBytes(claim);
    if (missing > this.freeBytes) throw new Error(`Claimed ${missing} bytes of pages with ${this.freeBytes} free`);
    const before = this.#held.get(claim.holder)?.pages ?? 0;
    const pageBytes = claim.bytesPerToken * PAGE_TOKENS;
    this.#held.set(claim.holder, { pages: Math.max(before, pagesFor(claim.tokens)), pageBytes });
    this.#budget.take("kv", missing);
  }

  /** Gives pages back that `tokens` do not need. */
  trim({ holder, tokens }: PageClaim): void {
    const held = this.#held.get(holder);
    if (!held || held.pages <= pagesFor(tokens)) return;
    this.#budget.give("kv", (held.pages - pagesFor(tokens)) * held.pageBytes);
    held.pages = pagesFor(tokens);
  }

  release(holder: number): void {
    const held = this.#held.get(holder);
    if (!held) return;
    this.#budget.give("kv", held.pages * held.pageBytes);
    this.#held.delete(holder);
  }

  /** Throws unless what is held is what was taken and only `holders` hold pages. */
  checkIntegrity(holders: ReadonlySet<number>): void {
    let heldBytes = 0;
    for (const [holder, { pages, pageBytes }] of this.#held) {
      if (!holders.has(holder)) throw new Error(`Sequence ${holder} is gone and still holds ${pages} pages`);
      heldBytes += pages * pageBytes;
    }
    this.#budget.checkIntegrity("kv", heldBytes);
  }

  /** What `claim` would take beyond what its holder has. */
  missingBytes({ holder, tokens, bytesPerToken }: PageClaim): number {
    const missing = pagesFor(tokens) - (this.#held.get(holder)?.pages ?? 0);
    return Math.max(0, missing) * bytesPerToken * PAGE_TOKENS;
  }
}

export interface PageClaim {
  holder: number;
  /** In all, those already held included. */
  tokens: number;
  bytesPerToken: number;
}
