import type { Tensor } from "onnxruntime-node";
import type { SequenceCache } from "../kv/sequence-cache.ts";
import { mayShareCall, MOST_SLOTS, type AttentionCores, type Queries } from "./attention-core.ts";
import { joinRanges, type RowRange, type RowStore } from "./row-store.ts";
import type { Standing } from "./standing.ts";

/** Queries of one sequence with where they lie in the flat batch. */
interface Piece {
  sequence: number;
  queries: Queries;
  rows: RowRange;
}

/**
 * The attention that a step still owes. Segments put in what they computed, of whichever models; when the first of these
 * goes on all of it is attended, so that few calls serve all sequences.
 */
export class CoreQueue {
  readonly #cores: AttentionCores;
  readonly #cacheOf: (sequence: number) => SequenceCache;
  #waiting: Piece[] = [];

  constructor(cores: AttentionCores, cacheOf: (sequence: number) => SequenceCache) {
    this.#cores = cores;
    this.#cacheOf = cacheOf;
  }

  /** Appends k and v rows of a segment's run to the caches; its q rows wait. */
  put(outputs: Readonly<Record<string, Tensor>>, standing: readonly Standing[]): void {
    const [q, k, v] = [outputs["q"]!, outputs["k"]!, outputs["v"]!].map(({ data }) => data as Float32Array) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    let first = 0;
    for (const { placed, member, rows } of standing) {
      const { layer, spec } = member.core!;
      const cache = this.#cacheOf(placed.item.sequence).layers[layer]!;
      const part = (all: Float32Array, width: number, from: number, count: number): Float32Array =>
        all.subarray((first + from) * width, (first + from + count) * width);
      const start = placed.item.start + rows.start - placed.rows.start;
      const { keys, values } = cache;
      cache.write(start, part(k, keys.width, 0, rows.count), part(v, values.width, 0, rows.count));
      const count = placed.item.stepwise ? 1 : rows.count;
      for (let from = 0; from < rows.count; from += count) {
        const query = part(q, spec.heads * spec.headSize, from, count);
        const queries = { core: spec, cache, start: start + from, count, query };
        this.#waiting.push({ sequence: placed.item.sequence, queries, rows: { start: rows.start + from, count } });
      }
      first += rows.count;
    }
  }

  /**
   * Puts the `o` rows of those that stand before a segment, and with them of all others that wait. All calls are handed over
   * at once: the binding defers each by one turn of the event loop, and one turn then serves all of them.
   */
  async attendFor(standing: readonly Standing[], values: RowStore): Promise<void> {
    const waiting = new Set(this.#waiting.map(({ sequence }) => sequence));
    if (!standing.some(({ placed }) => waiting.has(placed.item.sequence))) return;
    // In the order of the batch, as RowStore takes rows.
    const calls = callsOf(this.#waiting.toSorted((a, b) => a.rows.start - b.rows.start));
    this.#waiting = [];
    const attended = calls.map(async (pieces) => {
      const { core } = pieces[0]!.queries;
      const o = await this.#cores.attend(pieces.map(({ queries }) => queries));
      const ranges = joinRanges(pieces.map(({ rows }) => rows));
      values.put("o", core.heads * core.valueHeadSize, ranges, o);
    });
    // Not Promise.all: after a failure the caches must stay until the calls that are still queued have run.
    const failed = (await Promise.allSettled(attended)).find(({ status }) => status === "rejected");
    if (failed) throw (failed as PromiseRejectedResult).reason;
  }
}

/** Pieces that may share a call do, as many as fit. */
function callsOf(pieces: readonly Piece[]): Piece[][] {
  const calls: Piece[][] = [];
  for (const piece of pieces) {
    const call = calls.find((others) => others.length < MOST_SLOTS && mayShareCall(others[0]!.queries, piece.queries));
    if (call) call.push(piece);
    else calls.push([piece]);
  }
  return calls;
}
