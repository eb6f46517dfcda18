import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import type { BlobFolder } from "./blob-folder.ts";
import { explainWriteError } from "./storage-error.ts";

/** A blob on its way into the repository: a file in `incoming/` from the first write on, gone after `discard`. */
export class IncomingFile {
  readonly #folder: BlobFolder;
  readonly #path: string;
  readonly #expectedBytes: number;
  #handle: FileHandle | null = null;
  #written = 0;

  constructor(folder: BlobFolder, expectedBytes: number) {
    this.#folder = folder;
    this.#path = join(folder.incoming, `${process.pid}-${randomUUID()}`);
    this.#expectedBytes = expectedBytes;
  }

  get opened(): boolean {
    return this.#handle !== null;
  }

  async write(chunks: Uint8Array[]): Promise<void> {
    await this.#explained(async () => {
      // Read-only from birth; the handle that creates it may write all the same.
      this.#handle ??= await open(this.#path, "wx", 0o444);
      for (const chunk of chunks) await writeAll(this.#handle, chunk);
      this.#written += chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
    });
  }

  /** Some file systems report a full disk only here. */
  async sync(): Promise<void> {
    await this.#explained(async () => {
      await this.#handle?.datasync();
      await this.#handle?.close();
      this.#handle = null;
    });
  }

  async renameTo(path: string): Promise<void> {
    await this.#explained(() => rename(this.#path, path));
  }

  async discard(): Promise<void> {
    await this.#handle?.close();
    this.#handle = null;
    await rm(this.#path, { force: true });
  }

  async #explained(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      throw await explainWriteError(error, this.#folder.root, Math.max(this.#expectedBytes, this.#written));
    }
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let written = 0;
  while (written < bytes.byteLength) written += (await handle.write(bytes, written)).bytesWritten;
}
