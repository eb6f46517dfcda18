import { InferenceSession, type Tensor } from "onnxruntime-node";
import { packProjections } from "../../chain/pack-projections.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { writeModel } from "../../onnx/write-model.ts";
import { BlockllmError } from "../../support/errors.ts";
import { readSegment, weightPlace } from "./read-segment.ts";
import { isRowInvariant } from "./row-invariance.ts";
import { runtimeOptions } from "./runtime-options.ts";

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

/** A part that nothing is done to loads as the file it is; a model made in memory finds its weights in the same folder. */
async function loadSegment(segment: Segment, source: BlockSource, threads: number): Promise<LoadedSegment> {
  const { model: read, plain, folder } = await readSegment(segment, source);
  const rowInvariant = plain.every(isRowInvariant);
  const model = packProjections(read);
  if (plain.length === 1 && model === plain[0] && segment.parts[0]!.cut === undefined) {
    const path = source.blobs.path(segment.parts[0]!.graph);
    return { session: await InferenceSession.create(path, runtimeOptions(threads)), rowInvariant };
  }
  const bytes = writeModel(model, weightPlace);
  return { session: await InferenceSession.create(bytes, runtimeOptions(threads, folder)), rowInvariant };
}

export function cannotLoad(segment: Segment, cause: unknown): BlockllmError {
  const parts = segment.parts.map((part) => `${part.label} ${part.graph.slice(0, 19)}`).join(", ");
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new BlockllmError("model_unsupported", `ONNX Runtime cannot load ${parts}: ${reason}`, {
    hint: "blockllm check",
    cause,
  });
}
