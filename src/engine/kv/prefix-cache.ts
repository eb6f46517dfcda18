import { pagesFor, PAGE_TOKENS, type PageLedger } from "./page-ledger.ts";

interface Piece {
  /** Its number in the ledger; below 0, where no sequence is. */
  holder: number;
  /** Those before it, without which it is out of reach: the same stretch a chunk earlier, the stretch before. */
  parents: string[];
  /** Whose prompt it is of; parents are of the same. */
  owner: string;
  /** As the engine gave it. */
  state: Float32Array;
  claimedBytes: number;
}

/** Per chunk of a prompt, a key per stretch of the chain. */
export type ChunkKeys = readonly (readonly string[])[];

/**
 * State of prompt chunks, a piece per stretch of the chain, kept behind their sequences in pages that nobody else wants. A
 * piece is younger than those that are reached through it, so the oldest may always go.
 */
export class PrefixCache {
  readonly #ledger: PageLedger;
  /** Oldest first. */
  readonly #pieces = new Map<string, Piece>();
  #nextHolder = -1;

  constructor(ledger: PageLedger) {
    this.#ledger = ledger;
  }

  get claimedBytes(): number {
    return [...this.#pieces.values()].reduce((sum, { claimedBytes }) => sum + claimedBytes, 0);
  }

  get holders(): number[] {
    return [...this.#pieces.values()].map(({ holder }) => holder);
  }

  /** Chunk by chunk the pieces kept for its first stretches, up to a chunk that has none; they become the youngest. */
  lookUp(keys: ChunkKeys): Float32Array[][] {
    const found: string[][] = [];
    for (const chunk of keys) {
      const missing = chunk.findIndex((key) => !this.#pieces.has(key));
      if (missing === 0) break;
      found.push(missing === -1 ? [...chunk] : chunk.slice(0, missing));
    }
    for (const key of found.flat().toReversed()) {
      const piece = this.#pieces.get(key)!;
      this.#pieces.delete(key);
      this.#pieces.set(key, piece);
    }
    return found.map((chunk) => chunk.map((key) => this.#pieces.get(key)!.state));
  }

  /** Keeps the piece of the last of these keys, if all before it are kept and older ones leave room. */
  keep(
    keys: ChunkKeys,
    piece: { owner: string; tokens: number; bytesPerToken: number; read: () => Float32Array },
  ): void {
    const { owner, tokens, bytesPerToken, read } = piece;
    const before = keys.flat();
    const own = before.pop()!;
    this.lookUp(keys);
    if (this.#pieces.has(own) || before.some((key) => !this.#pieces.has(key))) return;
    const claim = { holder: this.#nextHolder, tokens, bytesPerToken };
    while (!this.#ledger.canClaim(claim)) {
      const [oldest] = this.#pieces.keys();
      if (oldest === undefined || before.includes(oldest)) return;
      this.giveUpOldest();
    }
    this.#ledger.claim(claim);
    const parents = [keys.at(-1)!.at(-2), keys.at(-2)?.at(keys.at(-1)!.length - 1)];
    this.#pieces.set(own, {
      holder: this.#nextHolder--,
      parents: parents.filter((key) => key !== undefined),
      owner,
      state: read(),
      claimedBytes: pagesFor(tokens) * PAGE_TOKENS * bytesPerToken,
    });
    this.lookUp(keys);
  }

  /** False: there is nothing left to give up. */
  giveUpOldest(): boolean {
    const [oldest] = this.#pieces;
    if (!oldest) return false;
    this.#ledger.release(oldest[1].holder);
    return this.#pieces.delete(oldest[0]);
  }

  /** Gives up all that one owner's prompts left; how many bytes were claimed for it. */
  forget(owner: string): number {
    const before = this.claimedBytes;
    for (const [key, piece] of this.#pieces) {
      if (piece.owner !== owner) continue;
      this.#ledger.release(piece.holder);
      this.#pieces.delete(key);
    }
    return before - this.claimedBytes;
  }

  /** Throws if a piece is out of reach or larger than its pages. */
  checkIntegrity(): void {
    for (const [key, { parents, state, claimedBytes }] of this.#pieces) {
      if (parents.some((parent) => !this.#pieces.has(parent)))
        throw new Error(`Prefix ${key} is kept without what is before it`);
      if (state.byteLength > claimedBytes)
        throw new Error(`Prefix ${key} holds ${state.byteLength} bytes, but claimed ${claimedBytes}`);
    }
  }
}
