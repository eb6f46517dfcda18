import { stat } from "node:fs/promises";
import { join } from "node:path";

import type { Digest } from "../blocks/block.ts";
import { BlockllmError } from "../support/errors.ts";
import type { Descriptor } from "./descriptor.ts";
import { manifestSchema } from "./document-schemas.ts";
import { parseDocument, readSmallBlob } from "./documents.ts";
import { FileBlobStore } from "./file-blob-store.ts";
import { readIndex } from "./index-file.ts";
import { type Residuals, residualsAmong, type StoredResidual } from "./stored-residual.ts";

/**
 * Which tensors of a repository are stored as residuals: what the manifests say that index.json names. Read again when
 * the index has changed, manifests each once.
 */
export class ResidualTable {
  readonly #blobs: FileBlobStore;
  readonly #ofManifest = new Map<Digest, StoredResidual[]>();
  #known: { version: string; residuals: Residuals } = { version: "", residuals: new Map() };

  constructor(root: string) {
    // Files alone: a manifest that is missing must not be looked for among residuals.
    this.#blobs = new FileBlobStore(root);
  }

  async all(): Promise<Residuals> {
    // index.json is replaced, never written into.
    const { ino, mtimeMs, size } = await stat(join(this.#blobs.folder.root, "index.json"));
    const version = `${ino} ${mtimeMs} ${size}`;
    if (version === this.#known.version) return this.#known.residuals;
    const residuals = new Map<Digest, StoredResidual>();
    for (const found of (await readIndex(this.#blobs.folder)).manifests)
      for (const residual of await this.#read(found)) residuals.set(residual.tensor, residual);
    this.#known = { version, residuals };
    return residuals;
  }

  async #read(found: Descriptor): Promise<StoredResidual[]> {
    const known = this.#ofManifest.get(found.digest);
    if (known) return known;
    const residuals = residualsAmong(await this.#layersOf(found));
    this.#ofManifest.set(found.digest, residuals);
    return residuals;
  }

  /** A damaged manifest, or another tool's document, says nothing about residuals; `check` says what is wrong with it. */
  async #layersOf(found: Descriptor): Promise<Descriptor[]> {
    try {
      return parseDocument(await readSmallBlob(this.#blobs, found), manifestSchema, `the manifest ${found.digest}`)
        .layers;
    } catch (error) {
      if (error instanceof BlockllmError) return [];
      throw error;
    }
  }
}
