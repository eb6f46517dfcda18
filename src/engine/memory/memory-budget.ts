export type MemoryUse = "weights" | "kv";

/** One budget of bytes: what weights take, keys and values cannot have, and the other way round. */
export class MemoryBudget {
  readonly totalBytes: number;
  /** The most that keys and values may have of it. */
  readonly kvLimitBytes: number;
  readonly #taken = { weights: 0, kv: 0 };

  constructor({ memoryBytes, kvMemoryBytes }: { memoryBytes: number; kvMemoryBytes: number }) {
    this.totalBytes = memoryBytes;
    this.kvLimitBytes = Math.min(memoryBytes, kvMemoryBytes);
  }

  taken(use: MemoryUse): number {
    return this.#taken[use];
  }

  /** What `use` may still take. */
  free(use: MemoryUse): number {
    const free = this.totalBytes - this.#taken.weights - this.#taken.kv;
    return use === "kv" ? Math.min(free, this.kvLimitBytes - this.#taken.kv) : free;
  }

  /** Ask `free` first. */
  take(use: MemoryUse, bytes: number): void {
    if (bytes > this.free(use)) throw new Error(`Took ${bytes} bytes for ${use} with ${this.free(use)} free`);
    this.#taken[use] += bytes;
  }

  give(use: MemoryUse, bytes: number): void {
    this.#taken[use] -= bytes;
  }

  /** Throws unless exactly `bytes` are taken for `use`, within the budget. */
  checkIntegrity(use: MemoryUse, bytes: number): void {
    if (this.#taken[use] !== bytes || this.free(use) < 0) {
      throw new Error(
        `Memory for ${use}: ${bytes} held, ${this.#taken[use]} taken, ${this.free(use)} free of ${this.totalBytes}`,
      );
    }
  }
}
