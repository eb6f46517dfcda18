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

  /** `lent`: by a cache of the same cores in another thread (`lend`); this one neither grows nor shrinks. */
  constructor(cores: readonly CoreSpec[], maxTokens: number, lent: readonly ArrayBuffer[] = []) {
    this.#lead = cores.some(({ sinks }) => sinks) ? 1 : 0;
    const maxRows = this.#pagesFor(maxTokens) * PAGE_TOKENS;
    this.layers = cores.map((core, layer) => new LayerCache(core, maxRows, lent.slice(2 * layer, 2 * layer + 2)));
  }

  get byteLength(): number {
    return this.layers.reduce((sum, layer) => sum + layer.keys.byteLength + layer.values.byteLength, 0);
  }

  /** Makes every layer hold at least `tokens`, in whole pages. */
  reserve(tokens: number): void {
    if (this.#pagesFor(tokens) > this.#pages) this.#resize(this.#pagesFor(tokens));
  }

  /** The buffers of all layers, keys and values in turn, to be transferred to another thread. */
  lend(): ArrayBuffer[] {
    return this.#buffers().map((rows) => rows.lend());
  }

  /** What was lent comes back; null: it was lost, the cache is empty. */
  takeBack(buffers: readonly ArrayBuffer[] | null): void {
    this.#buffers().forEach((rows, at) => rows.takeBack(buffers?.[at] ?? null));
    if (buffers === null) this.#pages = 0;
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

  #buffers(): GrowableRows[] {
    return this.layers.flatMap(({ keys, values }) => [keys, values]);
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
  constructor(core: CoreSpec, maxRows: number, [keys, values]: readonly ArrayBuffer[] = []) {
    this.#lead = core.sinks ? 1 : 0;
    this.keys = new GrowableRows(core.kvHeads * core.headSize, maxRows, keys);
    this.values = new GrowableRows(core.kvHeads * core.valueHeadSize, maxRows, values);
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
