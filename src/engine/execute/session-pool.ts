import type { Tensor } from "onnxruntime-node";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import type { RowSharing } from "./row-sharing.ts";
import { SegmentSession } from "./segment-session.ts";

/** What an executor runs the segments of its plan with, by their ids. */
export interface SegmentSessions {
  sharing(segment: number): RowSharing;
  run(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
  close(): Promise<void>;
}

/** One session per segment, loaded or not yet. */
export class SessionPool implements SegmentSessions {
  readonly sessions: readonly SegmentSession[];

  constructor(sessions: readonly SegmentSession[]) {
    this.sessions = sessions;
  }

  /** Loads every segment. Errors: blob_missing, model_invalid, model_unsupported naming the part. */
  static async load(segments: readonly Segment[], source: BlockSource, threads: number): Promise<SessionPool> {
    const from = { source, threads, maxBatchTokens: 1 };
    const pool = new SessionPool(await Promise.all(segments.map((segment) => SegmentSession.open(segment, from))));
    try {
      for (const session of pool.sessions) await session.load();
    } catch (error) {
      await pool.close();
      throw error;
    }
    return pool;
  }

  sharing(segment: number): RowSharing {
    return this.sessions[segment]!.sharing;
  }

  async run(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.sessions[segment]!.run(feeds);
  }

  async runInLane(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.sessions[segment]!.runInLane(feeds);
  }

  async close(): Promise<void> {
    for (const session of this.sessions) await session.unload();
  }
}
