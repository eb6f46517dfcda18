import { pagesFor, PAGE_TOKENS, type PageLedger } from "./page-ledger.ts";

interface Chunk {
  /** Its number in the ledger; below 0, where no sequence is. */
  holder: number;
  parent: string | null;
  /** Keys and values of all layers, as the executor gave them. */
  state: Float32Array;
  claimedBytes: number;
}

/**
 * Keys and values of prompt chunks, kept behind their sequences in pages that nobody else wants. A chunk is younger than
 * those that follow it in any prompt, so the oldest may always go: no other is reached through it.
 */
export class PrefixCache {
  readonly #ledger: PageLedger;
  /** Oldest first. */
  readonly #chunks = new Map<string, Chunk>();
  #nextHolder = -1;

  constructor(ledger: PageLedger) {
    this.#ledger = ledger;
  }

  get claimedBytes(): number {
    return [...this.#chunks.values()].reduce((sum, { claimedBytes }) => sum + claimedBytes, 0);
  }

  get holders(): number[] {
    return [...this.#chunks.values()].map(({ holder }) => holder);
  }

  /** The chunks kept for the first of these keys, up to the first that is not; they become the youngest. */
  lookUp(keys: readonly string[]): Float32Array[] {
    const missing = keys.findIndex((key) => !this.#chunks.has(key));
    const found = missing === -1 ? keys : keys.slice(0, missing);
    for (const key of found.toReversed()) {
      const chunk = this.#chunks.get(key)!;
      this.#chunks.delete(key);
      this.#chunks.set(key, chunk);
    }
    return found.map((key) => this.#chunks.get(key)!.state);
  }

  /** Keeps the chunk of the last of these keys, if those before it are kept and older ones leave room. */
  keep(
    keys: readonly string[],
    { tokens, bytesPerToken, read }: { tokens: number; bytesPerToken: number; read: () => Float32Array },
  ): void {
    const parents = keys.slice(0, -1);
    if (this.lookUp(keys).length !== parents.length) return;
    const claim = { holder: this.#nextHolder, tokens, bytesPerToken };
    while (!this.#ledger.canClaim(claim)) {
      const [oldest] = this.#chunks.keys();
      if (oldest === undefined || parents.includes(oldest)) return;
      this.giveUpOldest();
    }
    this.#ledger.claim(claim);
    const claimedBytes = pagesFor(tokens) * PAGE_TOKENS * bytesPerToken;
    this.#chunks.set(keys.at(-1)!, {
      holder: this.#nextHolder--,
      parent: parents.at(-1) ?? null,
      state: read(),
      claimedBytes,
    });
    this.lookUp(keys);
  }

  /** False: there is nothing left to give up. */
  giveUpOldest(): boolean {
    const [oldest] = this.#chunks;
    if (!oldest) return false;
    this.#ledger.release(oldest[1].holder);
    return this.#chunks.delete(oldest[0]);
  }

  /** Throws if a chunk is out of reach or larger than its pages. */
  checkIntegrity(): void {
    for (const [key, { parent, state, claimedBytes }] of this.#chunks) {
      if (parent !== null && !this.#chunks.has(parent))
        throw new Error(`Prefix ${key} is kept without what is before it`);
      if (state.byteLength > claimedBytes)
        throw new Error(`Prefix ${key} holds ${state.byteLength} bytes, but claimed ${claimedBytes}`);
    }
  }
}
