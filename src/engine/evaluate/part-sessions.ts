import { Tensor } from "onnxruntime-node";

import type { ChainPart } from "../../chain/chain.ts";
import type { Plan, Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { type SegmentSessions, SessionPool } from "../execute/session-pool.ts";

/** Hidden rows [rows, width] that once came out of a block. */
export interface RecordedRows {
  values: Float32Array;
  width: number;
}

export interface Observed {
  /** What `recordedPart` gives. */
  recorded?: RecordedRows | undefined;
  /** Told the outputs of every run of a segment, in the order of the walk. */
  onRun: (outputs: Record<string, Tensor>) => void;
}

interface LoadedPart {
  pool: SessionPool;
  bytes: number;
  /** Plans that run it now. */
  users: number;
}

/** Of parts that no plan runs now. */
const MOST_IDLE_BYTES = 4 * 2 ** 30;

/**
 * Sessions for many plans over the same parts: what was loaded for one plan is there for the next. Plans are made with
 * `fuse: false`, so that a segment is the same one in all of them.
 */
export class PartSessions {
  readonly source: BlockSource;
  readonly threads: number;
  readonly #mostIdleBytes: number;
  /** Those used last are last. */
  readonly #loaded = new Map<string, LoadedPart>();

  constructor(source: BlockSource, threads: number, mostIdleBytes = MOST_IDLE_BYTES) {
    this.source = source;
    this.threads = threads;
    this.#mostIdleBytes = mostIdleBytes;
  }

  /** Loads what is missing; closing what it gives lets go of it. Errors: as SessionPool.load. */
  async forPlan(plan: Plan, { recorded, onRun }: Observed): Promise<SegmentSessions> {
    const parts: (LoadedPart | null)[] = [];
    const letGo = async (): Promise<void> => {
      for (const part of parts.splice(0)) if (part) part.users--;
      await this.#closeIdle(this.#mostIdleBytes);
    };
    try {
      for (const segment of plan.segments) parts.push(isRecorded(segment) ? null : await this.#use(segment));
    } catch (error) {
      await letGo();
      throw error;
    }
    return {
      sharing: (segment) => parts[segment]?.pool.sharing(0) ?? 1,
      run: async (segment, feeds) => {
        const part = parts[segment]!;
        const outputs = part === null ? gather(recorded!, feeds) : await part.pool.run(0, feeds);
        onRun(outputs);
        return outputs;
      },
      close: letGo,
    };
  }

  async close(): Promise<void> {
    for (const { pool } of this.#loaded.values()) await pool.close();
    this.#loaded.clear();
  }

  async #use(segment: Segment): Promise<LoadedPart> {
    const key = JSON.stringify([segment.parts.map((part) => part.graph), segment.adapters]);
    const part = this.#loaded.get(key) ?? {
      pool: await SessionPool.load([segment], this.source, this.threads),
      bytes: segment.bytes,
      users: 0,
    };
    part.users++;
    this.#loaded.delete(key);
    this.#loaded.set(key, part);
    return part;
  }

  async #closeIdle(mostBytes: number): Promise<void> {
    const idle = [...this.#loaded].filter(([, { users }]) => users === 0);
    let bytes = idle.reduce((sum, [, part]) => sum + part.bytes, 0);
    for (const [key, part] of idle) {
      if (bytes <= mostBytes) return;
      bytes -= part.bytes;
      this.#loaded.delete(key);
      await part.pool.close();
    }
  }
}

const RECORDED = "sha256:recorded";

/** Stands where the embedding would: its "ids" are numbers of recorded rows. */
export function recordedPart(width: number): ChainPart {
  return {
    role: "main",
    graph: RECORDED,
    graphBytes: 0,
    inputs: [{ name: "ids", width: 1 }],
    outputs: [{ name: "hidden_out", width }],
    tensors: [],
    label: "recorded rows",
    rotary: null,
    factors: [],
  };
}

function isRecorded({ parts }: Segment): boolean {
  return parts[0]!.graph === RECORDED;
}

function gather({ values, width }: RecordedRows, feeds: Record<string, Tensor>): Record<string, Tensor> {
  const rows = feeds["ids"]!.data as BigInt64Array;
  const gathered = new Float32Array(rows.length * width);
  rows.forEach((row, at) => gathered.set(values.subarray(Number(row) * width, (Number(row) + 1) * width), at * width));
  return { hidden_out: new Tensor("float32", gathered, [1, rows.length, width]) };
}
