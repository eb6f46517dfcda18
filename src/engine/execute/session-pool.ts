import { basename, dirname } from "node:path";
import { InferenceSession, type Tensor } from "onnxruntime-node";
import { attachFactors } from "../../chain/attach-factors.ts";
import { fuseParts } from "../../chain/fuse-parts.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import type { OnnxModel } from "../../onnx/model.ts";
import { readModel } from "../../onnx/read-model.ts";
import { writeModel } from "../../onnx/write-model.ts";
import { BlockllmError } from "../../support/errors.ts";
import { isRowInvariant } from "./row-invariance.ts";
import { runtimeOptions } from "./runtime-options.ts";
import { stackFactors } from "./stack-factors.ts";

/** What an executor runs the segments of its plan with, by their ids. */
export interface SegmentSessions {
  /** May rows of several sequences go through it in one run? (row-invariance.ts) */
  isRowInvariant(segment: number): boolean;
  run(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
  close(): Promise<void>;
}

/** One session per segment. Weights are mapped from the repository's blobs, never read into JavaScript. */
export class SessionPool implements SegmentSessions {
  readonly #loaded: LoadedSegment[];

  private constructor(loaded: LoadedSegment[]) {
    this.#loaded = loaded;
  }

  static async load(segments: readonly Segment[], source: BlockSource, threads: number): Promise<SessionPool> {
    const pool = new SessionPool([]);
    for (const segment of segments) {
      try {
        pool.#loaded.push(await loadSegment(segment, source, threads));
      } catch (cause) {
        await pool.close();
        throw cause instanceof BlockllmError ? cause : cannotLoad(segment, cause);
      }
    }
    return pool;
  }

  isRowInvariant(segment: number): boolean {
    return this.#loaded[segment]!.rowInvariant;
  }

  async run(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.#loaded[segment]!.session.run(feeds);
  }

  async close(): Promise<void> {
    for (const { session } of this.#loaded.splice(0)) await session.release();
  }
}

interface LoadedSegment {
  session: InferenceSession;
  rowInvariant: boolean;
}

/**
 * A segment of one part loads as the file it is; several, or one that adapters add to, are joined in memory and find their
 * weights in the same folder.
 */
async function loadSegment(segment: Segment, source: BlockSource, threads: number): Promise<LoadedSegment> {
  const paths = segment.parts.map((part) => source.blobs.path(part.graph));
  const plain = await Promise.all(paths.map(readModel));
  const rowInvariant = plain.every(isRowInvariant);
  const parts = await Promise.all(plain.map(async (part, at) => withAdapters(part, { segment, at }, source)));
  if (paths.length === 1 && parts[0] === plain[0])
    return { session: await InferenceSession.create(paths[0]!, runtimeOptions(threads)), rowInvariant };
  const bytes = writeModel(fuseParts(parts), ({ data }) =>
    data.kind === "file" ? { location: basename(data.path), offset: data.offset, length: data.length } : null,
  );
  return { session: await InferenceSession.create(bytes, runtimeOptions(threads, dirname(paths[0]!))), rowInvariant };
}

async function withAdapters(
  part: OnnxModel,
  { segment, at }: { segment: Segment; at: number },
  source: BlockSource,
): Promise<OnnxModel> {
  const factors = segment.adapters.map((adapter) => adapter[at]!);
  return attachFactors(part, await stackFactors(factors, source.blobs));
}

function cannotLoad(segment: Segment, cause: unknown): BlockllmError {
  const parts = segment.parts.map((part) => `${part.label} ${part.graph.slice(0, 19)}`).join(", ");
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new BlockllmError("model_unsupported", `ONNX Runtime cannot load ${parts}: ${reason}`, {
    hint: "blockllm check",
    cause,
  });
}
