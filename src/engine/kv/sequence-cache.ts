import type { CoreSpec } from "../../blocks/block.ts";
import type { StateRange } from "../execute/executor.ts";
import { GrowableRows } from "./growable-rows.ts";
import { pagesFor, PAGE_TOKENS } from "./page-ledger.ts";

/** Keys and values of one sequence, token by token as the attention (in) part gives them; one pair of buffers a layer. */
export class SequenceCache {
  readonly layers: readonly LayerCache[];
  /** Rows before the first token in the layers that have most of them. */
  readonly #lead: number;
  #pages = 0;

  constructor(cores: readonly CoreSpec[], maxTokens: number) {
    this.#lead = cores.some(({ sinks }) => sinks) ? 1 : 0;
    this.layers = cores.map((core) => new LayerCache(core, this.#pagesFor(maxTokens) * PAGE_TOKENS));
  }

  get byteLength(): number {
    return this.layers.reduce((sum, layer) => sum + layer.keys.byteLength + layer.values.byteLength, 0);
  }

  /** Makes every layer hold at least `tokens`, in whole pages. */
  reserve(tokens: number): void {
    if (this.#pagesFor(tokens) > this.#pages) this.#resize(this.#pagesFor(tokens));
  }

  /** Copied, layer by layer: keys, then values. */
  read(range: StateRange): Float32Array {
    const parts = this.#rows(range);
    const state = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      state.set(part, at);
      at += part.length;
    }
    return state;
  }

  /** Puts what `read` gave back; memory for it must be there. */
  write(range: StateRange, state: Float32Array): void {
    let at = 0;
    for (const part of this.#rows(range)) {
      part.set(state.subarray(at, at + part.length));
      at += part.length;
    }
  }

  /** Forgets all but the first `tokens`; whole pages behind them are given back. */
  truncate(tokens: number): void {
    if (this.#pagesFor(tokens) < this.#pages) this.#resize(this.#pagesFor(tokens));
  }

  /** Gives all memory back; the cache may be filled again from token 0. */
  release(): void {
    this.#resize(0);
  }

  #rows({ from, to, layers = { first: 0, end: this.layers.length } }: StateRange): Float32Array[] {
    return this.layers.slice(layers.first, layers.end).flatMap((layer) => layer.rows(from, to));
  }

  #pagesFor(tokens: number): number {
    return pagesFor(tokens + this.#lead);
  }

  #resize(pages: number): void {
    this.#pages = pages;
    for (const layer of this.layers) layer.resize(pages * PAGE_TOKENS);
  }
}

/** One layer's rows. A core with sinks has one row of zeros before the first token: the key that no token is. */
export class LayerCache {
  readonly keys: GrowableRows;
  readonly values: GrowableRows;
  readonly #lead: number;

  /** `maxRows` with the row of zeros. */
  constructor(core: CoreSpec, maxRows: number) {
    this.#lead = core.sinks ? 1 : 0;
    this.keys = new GrowableRows(core.kvHeads * core.headSize, maxRows);
    this.values = new GrowableRows(core.kvHeads * core.valueHeadSize, maxRows);
  }

  resize(rows: number): void {
    this.keys.resize(rows);
    this.values.resize(rows);
  }

  write(token: number, keys: Float32Array, values: Float32Array): void {
    this.keys.write(token + this.#lead, keys);
    this.values.write(token + this.#lead, values);
  }

  /** Views on the keys and the values of tokens [from, to). */
  rows(from: number, to: number): [keys: Float32Array, values: Float32Array] {
    return [this.keys.view(from + this.#lead, to + this.#lead), this.values.view(from + this.#lead, to + this.#lead)];
  }

  /** Views on tokens [from, to); with sinks, on the row of zeros and all tokens before `to`. */
  view(from: number, to: number): { keys: Float32Array; values: Float32Array; rows: number } {
    const first = this.#lead === 1 ? 0 : from;
    const end = to + this.#lead;
    return { keys: this.keys.view(first, end), values: this.values.view(first, end), rows: end - first };
  }
}
