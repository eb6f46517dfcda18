import type { BatchItem, Share, SharedOut, StateRange } from "../../src/engine/execute/executor.ts";
import { type Script, ScriptedExecutor } from "./scripted-executor.ts";

/**
 * Plays a script in shares, sequences in turns. Each batch takes as long as `pause` says; whoever touches a sequence meanwhile
 * is refused.
 */
export class SharingExecutor extends ScriptedExecutor {
  /** Of each share, in the order in which it was given them. */
  readonly batches: BatchItem[][][];
  /** What a share's batch waits for before it is played; rejects: it fails. */
  pause: (share: number, batch: number) => Promise<void> = async () => {};
  readonly #inFlight = new Set<BatchItem>();

  constructor(script: Script, shares: number) {
    super(script);
    this.batches = Array.from({ length: shares }, () => []);
  }

  /** Being executed now. */
  get inFlight(): BatchItem[] {
    return [...this.#inFlight];
  }

  shareOut(items: BatchItem[]): SharedOut | null {
    const groups = this.batches.map((_, at) => items.filter(({ sequence }) => sequence % this.batches.length === at));
    const shares = groups.flatMap((own, at): Share[] =>
      own.length === 0 ? [] : [{ items: own, execute: async (batch) => this.#run(at, batch) }],
    );
    return shares.length === 0 ? null : { shares, done: () => {} };
  }

  override readState(sequence: number, range: StateRange): Float32Array {
    this.#refuse(sequence);
    return super.readState(sequence, range);
  }

  override writeState(sequence: number, range: StateRange, state: Float32Array): void {
    this.#refuse(sequence);
    super.writeState(sequence, range, state);
  }

  override truncate(sequence: number, tokens: number): void {
    this.#refuse(sequence);
    super.truncate(sequence, tokens);
  }

  override release(sequence: number): void {
    this.#refuse(sequence);
    super.release(sequence);
  }

  async #run(share: number, items: BatchItem[]): Promise<Float32Array[]> {
    for (const { sequence } of items) this.#refuse(sequence);
    for (const item of items) this.#inFlight.add(item);
    this.batches[share]!.push(items);
    try {
      await this.pause(share, this.batches[share]!.length);
      return await this.execute(items);
    } finally {
      for (const item of items) this.#inFlight.delete(item);
    }
  }

  #refuse(sequence: number): void {
    if (this.inFlight.some((item) => item.sequence === sequence))
      throw new Error(`Sequence ${sequence} is touched while it is executed`);
  }
}
