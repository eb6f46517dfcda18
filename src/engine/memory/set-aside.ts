import type { EngineConfig } from "../engine-config.ts";
import type { Executor } from "../execute/executor.ts";
import type { Sequence } from "../sequence.ts";
import { cheaperWayBack, MeasuredRates } from "./way-back.ts";
import { SwapSpace } from "./swap-space.ts";

/** Tokens copied at once. */
const PIECE_TOKENS = 256;

/** Keeps the keys and values of sequences that yield on disk, where that brings them back sooner than computing them. */
export class SetAside {
  readonly rates = new MeasuredRates();
  readonly #swap: EngineConfig["swap"];
  readonly #executor: Executor;
  readonly #space = new SwapSpace();
  readonly #tokens = new Map<number, number>();
  #count = 0;

  constructor({ swap }: EngineConfig, executor: Executor) {
    this.#swap = swap;
    this.#executor = executor;
  }

  get stats(): { swappedBytes: number; swaps: number } {
    return { swappedBytes: this.#space.bytes, swaps: this.#count };
  }

  /** Tokens of the sequence that are kept; 0: none. */
  tokensOf({ id }: Sequence): number {
    return this.#tokens.get(id) ?? 0;
  }

  /** Before its state is released: keeps its cached tokens, or does not. */
  keep({ id, cached, model }: Sequence): void {
    const bytes = cached * model.bytesPerToken;
    if (this.#swap === "off" || cached === 0 || model.stretches.length === 0) return;
    if (this.#swap === "auto" && cheaperWayBack({ tokens: cached, bytes }, this.rates) === "replay") return;
    const started = performance.now();
    try {
      if (!this.#space.canHold(bytes)) return;
      this.#space.put(id, this.#pieces(id, cached));
    } catch {
      // A full or broken disk: it is computed again.
      return;
    }
    this.rates.observeDisk(bytes, (performance.now() - started) / 1000);
    this.#tokens.set(id, cached);
    this.#count++;
  }

  /** Puts what was kept back, bit for bit, into a sequence that was just opened. False: it could not be read. */
  restore({ id, model }: Sequence): boolean {
    const started = performance.now();
    const tokens = this.#tokens.get(id)!;
    try {
      let from = 0;
      for (const piece of this.#space.take(id)) {
        const to = Math.min(tokens, from + PIECE_TOKENS);
        this.#executor.writeState(id, { from, to }, piece);
        from = to;
      }
    } catch {
      return false;
    } finally {
      this.drop(id);
    }
    this.rates.observeDisk(tokens * model.bytesPerToken, (performance.now() - started) / 1000);
    return true;
  }

  drop(id: number): void {
    this.#tokens.delete(id);
    this.#space.drop(id);
  }

  close(): void {
    this.#space.close();
  }

  /** Throws if something is kept of a sequence that does not wait. */
  checkIntegrity(waiting: ReadonlySet<number>): void {
    for (const id of this.#space.holders)
      if (!waiting.has(id) || !this.#tokens.has(id)) throw new Error(`Sequence ${id} does not wait and is swapped out`);
  }

  *#pieces(id: number, cached: number): Generator<Float32Array> {
    for (let from = 0; from < cached; from += PIECE_TOKENS)
      yield this.#executor.readState(id, { from, to: Math.min(cached, from + PIECE_TOKENS) });
  }
}
