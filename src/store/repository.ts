import type { z } from "zod";

import type { AdapterDocument } from "../blocks/adapter.ts";
import type { BlockDocument, Digest } from "../blocks/block.ts";
import { canonicalJson } from "../fingerprint/canonical-json.ts";
import { digestBytes } from "../fingerprint/digest.ts";
import { BlockllmError } from "../support/errors.ts";
import { ANNOTATIONS, ARTIFACT_TYPE, type Descriptor, MEDIA_TYPES } from "./descriptor.ts";
import {
  adapterSchema,
  blockSchema,
  type Index,
  type Manifest,
  manifestSchema,
  modelSchema,
  storedModelSchema,
} from "./document-schemas.ts";
import { parseDocument, readSmallBlob } from "./documents.ts";
import { FileBlobStore } from "./file-blob-store.ts";
import { readIndex, updateIndex } from "./index-file.ts";
import { makeManifest, type StoredDocument } from "./manifest.ts";
import type { ChainEntry, ModelDocument } from "./model-document.ts";
import { againAfterMerges, originalEntry } from "./merged-chain.ts";
import { canonicalModelName, modelNameOf } from "./model-name.ts";
import { type Origin, originAnnotations, originOf } from "./origin.ts";
import { blockReferences } from "./references.ts";
import { ResidualTable } from "./residual-table.ts";
import { blobWrongSize } from "./storage-error.ts";
import type { Residuals } from "./stored-residual.ts";

/** A model in index.json. */
export interface ModelEntry {
  name: string;
  /** Of the manifest: what a registry shows. Two names of the same files have the same. */
  digest: Digest;
  /** Bytes of the manifest. */
  size: number;
  /** null: nobody wrote it down. */
  origin: Origin | null;
}

export interface StoredModel extends ModelEntry {
  document: ModelDocument;
  manifest: Manifest;
}

type StoredManifest = Omit<StoredModel, "name" | "origin">;

/** A document to put in place of the model that `before` was read as. */
export interface ModelSwap {
  before: ModelEntry;
  document: ModelDocument;
  /** Tensors to keep as residuals; default: those that some model keeps so. */
  residuals?: Residuals;
}

/** Models by name over blobs by digest (an OCI image layout). Open one with `openRepository`. */
export class Repository {
  readonly root: string;
  readonly blobs: FileBlobStore;
  readonly #blocks = new Map<Digest, StoredDocument<BlockDocument>>();
  readonly #adapters = new Map<Digest, StoredDocument<AdapterDocument>>();
  readonly #residuals: ResidualTable;

  constructor(root: string) {
    this.root = root;
    this.blobs = new FileBlobStore(root, async (tensor) => (await this.residuals()).get(tensor)?.blob.digest ?? null);
    this.#residuals = new ResidualTable(root);
  }

  /** By name. What other tools put into the layout and is no blockllm model is not listed. */
  async listModels(): Promise<ModelEntry[]> {
    const entries = await Promise.all(
      (await readIndex(this.blobs.folder)).manifests.map((found) => this.modelEntry(found)),
    );
    return entries.filter((entry) => entry !== null).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Throws `model_not_found`; `blob_missing` or `blob_corrupt` when the model is damaged. */
  async readModel(name: string): Promise<StoredModel> {
    const wanted = canonicalModelName(name);
    const entries = await this.listModels();
    const entry = entries.find((candidate) => candidate.name === wanted);
    if (!entry) throw notFound(wanted, this.root, entries);
    return await this.readModelEntry(entry);
  }

  async readModelEntry(entry: ModelEntry): Promise<StoredModel> {
    const manifest = await this.#readManifest(entry);
    const bytes = await readSmallBlob(this.blobs, manifest.config);
    const { source, ...document } = parseDocument(bytes, storedModelSchema, `the model document of ${entry.name}`);
    return { ...entry, origin: entry.origin ?? source ?? null, document, manifest };
  }

  /** The tensors that some model keeps as a residual; models put from now on keep them so too. */
  async residuals(): Promise<Residuals> {
    return await this.#residuals.all();
  }

  /** Read once per repository object; the document must not be changed. */
  async readBlock(digest: Digest): Promise<BlockDocument> {
    return (await this.#readStoredBlock(digest)).document;
  }

  /** Read once per repository object; the document must not be changed. */
  async readAdapter(digest: Digest): Promise<AdapterDocument> {
    return (await this.#readStoredAdapter(digest)).document;
  }

  /** Stores the documents of adapters. Their tensors must be there by the time a model is put. */
  async putAdapters(documents: AdapterDocument[], signal?: AbortSignal): Promise<Descriptor[]> {
    return await this.#putDocuments(documents, adapterSchema, { mediaType: MEDIA_TYPES.adapter, signal });
  }

  /** Stores a block's document. Its graphs and tensors must be there by the time a model is put. */
  async putBlock(document: BlockDocument): Promise<Descriptor> {
    const [descriptor] = await this.putBlocks([document]);
    return descriptor as Descriptor;
  }

  /** As `putBlock`, in their order: 60 small files synced together take a fifth of the time of one after another. */
  async putBlocks(documents: BlockDocument[], signal?: AbortSignal): Promise<Descriptor[]> {
    return await this.#putDocuments(documents, blockSchema, { mediaType: MEDIA_TYPES.block, signal });
  }

  /**
   * Adds a model whose blocks and files are all stored. The name appears last and at once: a crash before that leaves
   * garbage, never half a model. Putting the same again changes nothing, also when some of its blocks were merged
   * since (their originals can be gone back to again), but for where it came from; another model under the name is
   * `name_taken` unless `replace`. Throws `blob_missing` when something the model needs is not there.
   */
  async putModel(
    name: string,
    document: ModelDocument,
    options: { origin?: Origin; replace?: boolean; signal?: AbortSignal } = {},
  ): Promise<StoredModel> {
    const canonicalName = canonicalModelName(name);
    const residuals = await this.#soundResiduals(document);
    const stored = await this.#storeModel(document, residuals);
    let put: StoredModel = { ...stored, name: canonicalName, origin: options.origin ?? null };
    const addEntry = async (index: Index) => {
      const before = index.manifests.find((found) => modelNameOf(found) === canonicalName);
      if (before?.digest === put.digest) put = { ...put, origin: put.origin ?? originOf(before) };
      else if (before && !options.replace) {
        const known = await this.readModelEntry(entryOf(canonicalName, before));
        const same = againAfterMerges(known.document, document);
        if (!same) throw nameTaken(canonicalName);
        put = { ...put, ...(await this.#storeModel(same, residuals)), origin: put.origin ?? known.origin };
      }
      await this.#demandWhole(put);
      return withEntry(index, put);
    };
    await updateIndex(this.blobs.folder, addEntry, options.signal ? { signal: options.signal } : {});
    return put;
  }

  /**
   * Puts other documents in place of models that were read before, all of them at once. A name that no longer stands
   * for the manifest that was read (split again, merged by another process, removed) is left as it is; the names that
   * were given their new document come back. Throws `blob_missing` when a document needs what is not there, and then
   * none is changed.
   */
  async swapModels(swaps: ModelSwap[], options: { signal?: AbortSignal } = {}): Promise<string[]> {
    const stored: { before: ModelEntry; model: StoredManifest }[] = [];
    for (const { before, document, residuals } of swaps)
      stored.push({ before, model: await this.#storeModel(document, residuals) });
    const swapped: string[] = [];
    const change = async (index: Index) => {
      let changed = index;
      for (const { before, model } of stored) {
        const { name, origin } = before;
        if (!index.manifests.some((found) => modelNameOf(found) === name && found.digest === before.digest)) continue;
        await this.#demandWhole(model);
        changed = withEntry(changed, { ...model, name, origin });
        swapped.push(before.name);
      }
      return changed;
    };
    if (stored.length > 0) await updateIndex(this.blobs.folder, change, options);
    return swapped;
  }

  /** Splitting a model again repairs it: of its tensors that were stored whole just now, no damaged residual is used. */
  async #soundResiduals({ chain }: ModelDocument): Promise<Residuals> {
    const sound = new Map(await this.residuals());
    for (const { digest } of chain) {
      for (const { digest: tensor } of blockReferences(await this.readBlock(digest))) {
        const residual = sound.get(tensor);
        if (!residual || !(await this.blobs.has(tensor))) continue;
        try {
          await this.blobs.rebuild(tensor, residual.blob.digest);
        } catch (error) {
          if (!(error instanceof BlockllmError)) throw error;
          sound.delete(tensor);
        }
      }
    }
    return sound;
  }

  async #storeModel(document: ModelDocument, given?: Residuals): Promise<StoredManifest> {
    const { config, manifest } = await this.#drawModel(document, given ?? (await this.residuals()));
    await this.blobs.put(config, MEDIA_TYPES.model);
    const { digest, size } = await this.blobs.put(manifest, MEDIA_TYPES.manifest);
    return { digest, size, document, manifest: parseDocument(manifest, manifestSchema, "the manifest") };
  }

  /** The bytes of document and manifest. */
  async #drawModel(
    document: ModelDocument,
    residuals: Residuals,
  ): Promise<{ config: Uint8Array; manifest: Uint8Array }> {
    const config = canonicalJson(document);
    parseDocument(config, modelSchema, "the model document");
    for (const entry of document.chain) await this.#readEntry(entry);
    const descriptor = { mediaType: MEDIA_TYPES.model, digest: digestBytes(config), size: config.byteLength };
    const documents = { blocks: this.#blocks, adapters: this.#adapters, residuals };
    return { config, manifest: canonicalJson(makeManifest(descriptor, document, documents)) };
  }

  /** Document and manifest of a model as it was split, stored or not; null where a merge gave the original up. */
  async documentsAsSplit({
    document,
  }: Pick<StoredModel, "document">): Promise<Pick<Descriptor, "digest" | "size">[] | null> {
    if (document.chain.some(({ replaces }) => replaces?.kept === false)) return null;
    const split = { ...document, chain: document.chain.map(originalEntry) };
    const { config, manifest } = await this.#drawModel(split, new Map());
    return [config, manifest].map((bytes) => ({ digest: digestBytes(bytes), size: bytes.byteLength }));
  }

  /** Under the index lock, which collections take too: what is there now stays once the index refers to it. */
  async #demandWhole({ digest, size, manifest }: StoredManifest): Promise<void> {
    for (const needed of [{ digest, size }, manifest.config, ...manifest.layers]) {
      const stored = await this.blobs.size(needed.digest);
      if (stored !== needed.size) throw blobWrongSize(needed.digest, stored, needed.size);
    }
  }

  /** Forgets the name; its blobs stay until they are collected. Throws `model_not_found`. */
  async removeModel(name: string): Promise<ModelEntry> {
    const wanted = canonicalModelName(name);
    const entries = await this.listModels();
    const entry = entries.find((candidate) => candidate.name === wanted);
    if (!entry) throw notFound(wanted, this.root, entries);
    await updateIndex(this.blobs.folder, async (index) => ({
      ...index,
      manifests: index.manifests.filter((found) => modelNameOf(found) !== wanted),
    }));
    return entry;
  }

  /** The model that a descriptor in index.json stands for; null when it is something else. */
  async modelEntry(found: Descriptor): Promise<ModelEntry | null> {
    const name = modelNameOf(found);
    if (name === null || found.mediaType !== MEDIA_TYPES.manifest) return null;
    const entry = entryOf(name, found);
    return found.artifactType === ARTIFACT_TYPE || (await this.#isModel(entry)) ? entry : null;
  }

  /** skopeo and others copy a manifest without repeating its artifactType in the index. */
  async #isModel(entry: ModelEntry): Promise<boolean> {
    try {
      return (await this.#readManifest(entry)).config.mediaType === MEDIA_TYPES.model;
    } catch (error) {
      // Damaged: listed all the same, so that reading it says what is wrong, and it can be removed.
      if (error instanceof BlockllmError) return true;
      throw error;
    }
  }

  async #readManifest(entry: ModelEntry): Promise<Manifest> {
    const bytes = await readSmallBlob(this.blobs, entry);
    return parseDocument(bytes, manifestSchema, `the manifest of ${entry.name}`);
  }

  /** Everything a chain entry names, into memory, so that a manifest can be made. */
  async #readEntry({ digest, adapter, replaces }: ChainEntry): Promise<void> {
    await this.#readStoredBlock(digest);
    if (adapter) await this.#readStoredAdapter(adapter.digest);
    if (!replaces?.kept) return;
    await this.#readStoredBlock(replaces.digest);
    if (replaces.adapter) await this.#readStoredAdapter(replaces.adapter.digest);
  }

  async #readStoredBlock(digest: Digest): Promise<StoredDocument<BlockDocument>> {
    return await this.#readStored(digest, this.#blocks, {
      schema: blockSchema,
      mediaType: MEDIA_TYPES.block,
      what: "block",
    });
  }

  async #readStoredAdapter(digest: Digest): Promise<StoredDocument<AdapterDocument>> {
    return await this.#readStored(digest, this.#adapters, {
      schema: adapterSchema,
      mediaType: MEDIA_TYPES.adapter,
      what: "adapter",
    });
  }

  async #readStored<Document>(
    digest: Digest,
    known: Map<Digest, StoredDocument<Document>>,
    { schema, mediaType, what }: { schema: z.ZodType<Document>; mediaType: string; what: string },
  ): Promise<StoredDocument<Document>> {
    const found = known.get(digest);
    if (found) return found;
    const bytes = await readSmallBlob(this.blobs, { digest, size: await this.blobs.size(digest) });
    const document = parseDocument(bytes, schema, `the ${what} ${digest}`);
    const stored = { descriptor: { mediaType, digest, size: bytes.byteLength }, document };
    known.set(digest, stored);
    return stored;
  }

  async #putDocuments<Document extends object>(
    documents: Document[],
    schema: z.ZodType<Document>,
    { mediaType, signal }: { mediaType: string; signal: AbortSignal | undefined },
  ): Promise<Descriptor[]> {
    const sources = documents.map((document) => {
      const bytes = canonicalJson(document);
      parseDocument(bytes, schema, "the document");
      return { mediaType, size: bytes.byteLength, stream: () => [bytes] };
    });
    return await this.blobs.putMany(sources, signal ? { signal } : {});
  }
}

/** In the place of the one before, so that the order stays the one in which names came. */
function withEntry(index: Index, { name, digest, size, origin }: ModelEntry): Index {
  const entry: Descriptor = {
    mediaType: MEDIA_TYPES.manifest,
    digest,
    size,
    artifactType: ARTIFACT_TYPE,
    annotations: { [ANNOTATIONS.referenceName]: name, ...(origin && originAnnotations(origin)) },
  };
  const at = index.manifests.findIndex((found) => modelNameOf(found) === name);
  const others = index.manifests.filter((found) => modelNameOf(found) !== name);
  return { ...index, manifests: others.toSpliced(at === -1 ? others.length : at, 0, entry) };
}

function entryOf(name: string, found: Descriptor): ModelEntry {
  return { name, digest: found.digest, size: found.size, origin: originOf(found) };
}

function notFound(name: string, root: string, entries: ModelEntry[]): BlockllmError {
  const names = entries.map((entry) => entry.name).join(", ");
  return new BlockllmError("model_not_found", `${root} has no model ${name}${names ? `; it has ${names}` : ""}`, {
    hint: "`blockllm list` shows every model, `blockllm split <folder>` adds one",
  });
}

function nameTaken(name: string): BlockllmError {
  return new BlockllmError("name_taken", `another model is called ${name}`, {
    hint: "give this one another name with --name or another tag with --as, or take this one over with --replace",
  });
}
