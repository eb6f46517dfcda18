import type { BlockllmError } from "../../support/errors.ts";
import { asEngineError } from "../engine-error.ts";
import {
  type BatchItem,
  type Executor,
  type Loadable,
  type Needs,
  PartlyFailed,
  type SharedOut,
  type StateRange,
} from "./executor.ts";

/** Several executors as one: each model's sequences go to the executor that holds the model. Models by their keys. */
export class RoutedExecutor implements Executor {
  #executors: ReadonlyMap<string, Executor>;
  readonly #ofSequence = new Map<number, Executor>();

  constructor(executors: ReadonlyMap<string, Executor>) {
    this.#executors = executors;
  }

  get needs(): Needs {
    return new Map(this.#distinct().flatMap(({ needs }) => [...needs]));
  }

  /** Goes on with these, between two batches. Sequences stay with the executor that has them. */
  adopt(executors: ReadonlyMap<string, Executor>): void {
    this.#executors = executors;
  }

  open(sequence: number, options: { model: string; maxTokens: number }): void {
    const executor = this.#executors.get(options.model);
    if (!executor) throw new Error(`No executor holds ${options.model}`);
    executor.open(sequence, options);
    this.#ofSequence.set(sequence, executor);
  }

  readState(sequence: number, range: StateRange): Float32Array {
    return this.#ofSequence.get(sequence)!.readState(sequence, range);
  }

  writeState(sequence: number, range: StateRange, state: Float32Array): void {
    this.#ofSequence.get(sequence)!.writeState(sequence, range, state);
  }

  truncate(sequence: number, tokens: number): void {
    this.#ofSequence.get(sequence)!.truncate(sequence, tokens);
  }

  release(sequence: number): void {
    this.#ofSequence.get(sequence)?.release(sequence);
    this.#ofSequence.delete(sequence);
  }

  stateBytes(): number {
    return this.#distinct().reduce((sum, executor) => sum + executor.stateBytes(), 0);
  }

  /** What one executor fails at is not the others' matter: CPU models go on while a device is lost. */
  async execute(items: BatchItem[]): Promise<Float32Array[]> {
    const results: (Float32Array | BlockllmError)[] = items.map(() => new Float32Array(0));
    const failures: unknown[] = [];
    let ran = 0;
    for (const executor of this.#distinct()) {
      const places = items.flatMap((item, place) => (this.#ofSequence.get(item.sequence) === executor ? [place] : []));
      if (places.length === 0) continue;
      ran++;
      try {
        const rows = await executor.execute(places.map((place) => items[place]!));
        places.forEach((place, index) => (results[place] = rows[index]!));
      } catch (error) {
        failures.push(error);
        for (const place of places) results[place] = asEngineError(error);
      }
    }
    if (failures.length === 0) return results as Float32Array[];
    throw ran === 1 ? failures[0] : new PartlyFailed(results);
  }

  /** Null where several executors have items. */
  shareOut(items: BatchItem[]): SharedOut | null {
    const [executor, ...others] = new Set(items.map(({ sequence }) => this.#ofSequence.get(sequence)!));
    return others.length === 0 ? (executor?.shareOut?.(items) ?? null) : null;
  }

  async whileIdle(spareBytes: number): Promise<void> {
    for (const executor of this.#distinct()) await executor.whileIdle?.(spareBytes);
  }

  get extras(): readonly Loadable[] {
    return this.#distinct().flatMap(({ extras }) => extras ?? []);
  }

  get laneBatches(): number {
    return this.#distinct().reduce((sum, executor) => sum + (executor.laneBatches ?? 0), 0);
  }

  get deviceLosses(): number {
    return this.#distinct().reduce((sum, executor) => sum + (executor.deviceLosses ?? 0), 0);
  }

  async close(): Promise<void> {
    for (const executor of this.#distinct()) await executor.close();
    this.#ofSequence.clear();
  }

  #distinct(): Executor[] {
    return [...new Set(this.#executors.values())];
  }
}
