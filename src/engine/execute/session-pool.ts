import { basename, dirname } from "node:path";
import { InferenceSession, type Tensor } from "onnxruntime-node";
import { fuseParts } from "../../chain/fuse-parts.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { readModel } from "../../onnx/read-model.ts";
import { writeModel } from "../../onnx/write-model.ts";
import { BlockllmError } from "../../support/errors.ts";
import { runtimeOptions } from "./runtime-options.ts";

/** One session per segment. Weights are mapped from the repository's blobs, never read into JavaScript. */
export class SessionPool {
  readonly #sessions: InferenceSession[];

  private constructor(sessions: InferenceSession[]) {
    this.#sessions = sessions;
  }

  static async load(segments: readonly Segment[], source: BlockSource, threads: number): Promise<SessionPool> {
    const sessions: InferenceSession[] = [];
    for (const segment of segments) {
      try {
        sessions.push(await loadSegment(segment, source, threads));
      } catch (cause) {
        for (const session of sessions) await session.release();
        throw cause instanceof BlockllmError ? cause : cannotLoad(segment, cause);
      }
    }
    return new SessionPool(sessions);
  }

  async run(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.#sessions[segment]!.run(feeds);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.splice(0)) await session.release();
  }
}

/** A segment of one part loads as the file it is; several are fused in memory and find their weights in the same folder. */
async function loadSegment(segment: Segment, source: BlockSource, threads: number): Promise<InferenceSession> {
  const paths = segment.parts.map((part) => source.blobs.path(part.graph));
  if (paths.length === 1) return await InferenceSession.create(paths[0]!, runtimeOptions(threads));
  const fused = fuseParts(await Promise.all(paths.map(readModel)));
  const bytes = writeModel(fused, ({ data }) =>
    data.kind === "file" ? { location: basename(data.path), offset: data.offset, length: data.length } : null,
  );
  return await InferenceSession.create(bytes, runtimeOptions(threads, dirname(paths[0]!)));
}

function cannotLoad(segment: Segment, cause: unknown): BlockllmError {
  const parts = segment.parts.map((part) => `${part.label} ${part.graph.slice(0, 19)}`).join(", ");
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new BlockllmError("model_unsupported", `ONNX Runtime cannot load ${parts}: ${reason}`, {
    hint: "blockllm check",
    cause,
  });
}
