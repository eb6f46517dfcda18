import type { Digest } from "../blocks/block.ts";
import { BlockllmError, type ErrorCode } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { checkModel } from "./check-model.ts";
import type { Descriptor } from "./descriptor.ts";
import type { Index } from "./document-schemas.ts";
import { readIndex } from "./index-file.ts";
import { listLeftovers } from "./leftovers.ts";
import { mapConcurrently } from "./limit-concurrency.ts";
import { markReachable } from "./mark.ts";
import { modelNameOf } from "./model-name.ts";
import type { Repository } from "./repository.ts";
import { blobCorrupt } from "./storage-error.ts";

const BLOBS_IN_FLIGHT = 4;

export interface Integrity {
  models: number;
  blobs: number;
  bytes: number;
  /** Empty: every model can be read whole. */
  problems: Problem[];
  /** Blobs that nothing refers to: work in progress, or what an interrupted one left. No problem; `gc` removes them. */
  garbage_blobs: number;
  garbage_bytes: number;
  /** Half-written files. No problem either. */
  temporaries: number;
}

export interface Problem {
  code: ErrorCode;
  message: string;
  /** The models that it breaks. */
  models: string[];
}

export interface CheckOptions {
  signal?: AbortSignal;
  onProgress?: (progress: { blobs: number; bytes: number }) => void;
}

/** Reads everything there is, hashes it again and follows every reference. Repairs nothing and changes nothing. */
export async function checkIntegrity(repository: Repository, options: CheckOptions = {}): Promise<Integrity> {
  const problems = new Problems();
  // Before the blobs are listed: what this index refers to was stored before the index was written.
  const index = await readIndexOrReport(repository, problems);
  const stored = await hashEverything(repository, options);
  const reachable = new Set<Digest>();
  for (const entry of index.manifests) {
    options.signal?.throwIfAborted();
    for (const digest of await checkEntry(repository, entry, { stored, problems })) reachable.add(digest);
  }
  if (index.manifests.length > 0) await rebuildResiduals(repository, { stored, problems, ...options });
  const garbage = [...stored].filter(([digest]) => !reachable.has(digest)).map(([, blob]) => blob.size);
  return {
    models: index.manifests.filter((entry) => modelNameOf(entry) !== null).length,
    blobs: stored.size,
    bytes: sum([...stored.values()].map((blob) => blob.size)),
    problems: problems.list(),
    garbage_blobs: garbage.length,
    garbage_bytes: sum(garbage),
    temporaries: (await listLeftovers(repository.blobs.folder)).length,
  };
}

/** Bytes that no blob holds are sound when they come out of their residual. */
async function rebuildResiduals(
  repository: Repository,
  { stored, problems, signal }: CheckOptions & { stored: Stored; problems: Problems },
): Promise<void> {
  for (const { tensor, base, blob } of (await repository.residuals()).values()) {
    signal?.throwIfAborted();
    if ([base, blob.digest].some((digest) => stored.get(digest)?.damage !== null)) continue;
    try {
      await repository.blobs.rebuild(tensor, blob.digest);
    } catch (error) {
      if (!(error instanceof BlockllmError)) throw error;
      problems.add(error);
    }
  }
}

type Stored = Map<Digest, { size: number; damage: BlockllmError | null }>;

async function hashEverything(repository: Repository, { signal, onProgress }: CheckOptions): Promise<Stored> {
  const stored: Stored = new Map();
  let bytes = 0;
  await mapConcurrently(
    repository.blobs.list(),
    async ({ digest, size }, stop) => {
      const damage = await findDamage(repository, digest, stop);
      // Gone since it was listed: a collection removed it, so nothing refers to it.
      if (damage?.code === "blob_missing") return;
      stored.set(digest, { size, damage });
      onProgress?.({ blobs: stored.size, bytes: (bytes += size) });
    },
    { limit: BLOBS_IN_FLIGHT, signal },
  );
  return stored;
}

async function findDamage(repository: Repository, digest: Digest, signal: AbortSignal): Promise<BlockllmError | null> {
  try {
    for await (const chunk of repository.blobs.stream(digest, signal)) void chunk;
    return null;
  } catch (error) {
    if (error instanceof BlockllmError) return error;
    // EIO of a dying disk, EACCES: found while looking for exactly that.
    if (error instanceof Error && "syscall" in error) return blobCorrupt(digest, reasonOf(error));
    throw error;
  }
}

/** Checks what an entry of the index reaches and gives its digests. */
async function checkEntry(
  repository: Repository,
  entry: Descriptor,
  { stored, problems }: { stored: Stored; problems: Problems },
): Promise<Iterable<Digest>> {
  const name = modelNameOf(entry) ?? entry.digest;
  const unreadable: BlockllmError[] = [];
  const reached = await markReachable(repository.blobs, { manifests: [entry] }, (error) => void unreadable.push(error));
  let sound = true;
  for (const [digest, size] of reached) {
    const fault = faultOf(digest, size, stored);
    if (!fault) continue;
    problems.add(fault, name);
    sound = false;
  }
  if (!sound) return reached.keys();
  for (const error of unreadable) problems.add(error, name);
  if (unreadable.length === 0) {
    const model = await repository.modelEntry(entry);
    if (model) for (const error of await checkModel(repository, model)) problems.add(error, name);
  }
  return reached.keys();
}

function faultOf(digest: Digest, size: number, stored: Stored): BlockllmError | null {
  const blob = stored.get(digest);
  if (!blob) return new BlockllmError("blob_missing", `blob ${digest} is missing`);
  if (blob.damage) return blob.damage;
  if (blob.size === size) return null;
  return new BlockllmError("blob_corrupt", `blob ${digest} has ${blob.size} bytes where ${size} are referred to`);
}

async function readIndexOrReport(repository: Repository, problems: Problems): Promise<Index> {
  try {
    return await readIndex(repository.blobs.folder);
  } catch (error) {
    if (!(error instanceof BlockllmError)) throw error;
    problems.add(error);
    return { manifests: [] };
  }
}

/** One fault breaks many models, since they share blobs: it is told once, with all of them. */
class Problems {
  readonly #byMessage = new Map<string, Problem>();

  add({ code, message }: BlockllmError, model?: string): void {
    const problem = this.#byMessage.get(message) ?? { code, message, models: [] };
    if (model !== undefined && !problem.models.includes(model)) problem.models.push(model);
    this.#byMessage.set(message, problem);
  }

  list(): Problem[] {
    return [...this.#byMessage.values()];
  }
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
