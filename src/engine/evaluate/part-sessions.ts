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

/**
 * Sessions for many plans over the same parts: what was loaded for one plan is there for the next. Plans are made with
 * `fuse: false`, so that a segment is the same one in all of them.
 */
export class PartSessions {
  readonly source: BlockSource;
  readonly threads: number;
  readonly #loaded = new Map<string, SessionPool>();

  constructor(source: BlockSource, threads: number) {
    this.source = source;
    this.threads = threads;
  }

  /** Loads what is missing; closing what it gives closes nothing. Errors: as SessionPool.load. */
  async forPlan(plan: Plan, { recorded, onRun }: Observed): Promise<SegmentSessions> {
    const pools: (SessionPool | null)[] = [];
    for (const segment of plan.segments) pools.push(isRecorded(segment) ? null : await this.#pool(segment));
    return {
      isRowInvariant: (segment) => pools[segment]?.isRowInvariant(0) ?? true,
      run: async (segment, feeds) => {
        const pool = pools[segment]!;
        const outputs = pool === null ? gather(recorded!, feeds) : await pool.run(0, feeds);
        onRun(outputs);
        return outputs;
      },
      close: async () => {},
    };
  }

  async close(): Promise<void> {
    for (const pool of this.#loaded.values()) await pool.close();
    this.#loaded.clear();
  }

  async #pool(segment: Segment): Promise<SessionPool> {
    const key = JSON.stringify([segment.parts.map((part) => part.graph), segment.adapters]);
    const loaded = this.#loaded.get(key) ?? (await SessionPool.load([segment], this.source, this.threads));
    this.#loaded.set(key, loaded);
    return loaded;
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
