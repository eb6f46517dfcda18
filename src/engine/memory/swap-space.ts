import { closeSync, mkdtempSync, openSync, readSync, rmSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasRoom } from "../../support/disk-with-room.ts";

interface SwapFile {
  descriptor: number;
  /** null: it has no name any more. */
  path: string | null;
  /** One entry per piece, in bytes. */
  lengths: number[];
}

/**
 * Keys and values of sequences that had to yield, on disk: one file each, in a folder that only this user can enter. A
 * file loses its name as soon as it is open, so nothing is left behind however the process ends.
 */
export class SwapSpace {
  readonly #parent: string;
  readonly #files = new Map<number, SwapFile>();
  #folder: string | null = null;

  constructor(parent: string = tmpdir()) {
    this.#parent = parent;
  }

  get holders(): number[] {
    return [...this.#files.keys()];
  }

  get bytes(): number {
    return [...this.#files.values()].reduce((sum, { lengths }) => sum + sumOf(lengths), 0);
  }

  has(holder: number): boolean {
    return this.#files.has(holder);
  }

  canHold(bytes: number): boolean {
    return hasRoom(this.#parent, bytes);
  }

  /** Throws what the file system throws; then nothing is kept. */
  put(holder: number, pieces: Iterable<Float32Array>): void {
    const file = this.#create(holder);
    try {
      for (const piece of pieces) {
        const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
        writeAll(file.descriptor, bytes);
        file.lengths.push(bytes.length);
      }
    } catch (error) {
      this.drop(holder);
      throw error;
    }
  }

  /** The pieces as they were put, one at a time. Throws where fewer bytes come back. */
  *take(holder: number): Generator<Float32Array> {
    const { descriptor, lengths } = this.#files.get(holder)!;
    let position = 0;
    for (const length of lengths) {
      const piece = new Float32Array(length / 4);
      readAll(descriptor, new Uint8Array(piece.buffer), position);
      position += length;
      yield piece;
    }
  }

  drop(holder: number): void {
    const file = this.#files.get(holder);
    if (!file) return;
    this.#files.delete(holder);
    closeSync(file.descriptor);
    if (file.path !== null) rmSync(file.path, { force: true });
    if (this.#files.size === 0) this.#removeFolder();
  }

  close(): void {
    for (const holder of this.holders) this.drop(holder);
  }

  #removeFolder(): void {
    if (this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = null;
  }

  #create(holder: number): SwapFile {
    this.#folder ??= mkdtempSync(join(this.#parent, "blockllm-swap-"));
    const path = join(this.#folder, `${holder}`);
    const file: SwapFile = { descriptor: openSync(path, "wx+", 0o600), path, lengths: [] };
    this.#files.set(holder, file);
    try {
      unlinkSync(path);
      file.path = null;
    } catch (error) {
      // Windows keeps the name of an open file.
      if (process.platform !== "win32") throw error;
    }
    return file;
  }
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) written += writeSync(descriptor, bytes, written);
}

function readAll(descriptor: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) {
    const count = readSync(descriptor, bytes, { offset: done, position: position + done });
    if (count === 0) throw new Error(`The swap file ends ${bytes.length - done} bytes early`);
    done += count;
  }
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
