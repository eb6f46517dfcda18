import { InferenceSession, Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../blocks/block.ts";
import type { LayerCache } from "../kv/sequence-cache.ts";
import { attentionMask, needsMask, type AttentionMask } from "./attention-mask.ts";
import { coreModel } from "./core-model.ts";
import { decodeCoreModel } from "./decode-core.ts";
import { runtimeOptions } from "./runtime-options.ts";

/** Most rows that one call of a decode core takes: by then a call costs little besides its rows. A power of two. */
export const MOST_SLOTS = 16;

/** Query rows of one sequence: those of the tokens [start, start + count), the last ones that its cache is asked for. */
export interface Queries {
  core: CoreSpec;
  cache: LayerCache;
  start: number;
  count: number;
  /** [count, heads × headSize] */
  query: Float32Array;
}

/**
 * The weightless attention cores: sessions per geometry serve every layer of every chain. Operator `Attention` of opset 24
 * with exact-length keys and values, so that queries are the last rows of the keys.
 */
export class AttentionCores {
  readonly #threads: number;
  /** By geometry, and whether it takes a mask or how many slots it has. */
  readonly #sessions = new Map<string, Promise<InferenceSession>>();
  #masks = new Map<string, AttentionMask>();

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** Those of the geometries that are not there yet. Safe beside `attend`. */
  async load(cores: readonly CoreSpec[]): Promise<void> {
    for (const core of cores) {
      await this.#chunkSession(core, false);
      if (core.window || core.alibiSlopes || core.sinks) await this.#chunkSession(core, true);
      if (goesByItself({ core, count: 1 })) await this.#decodeSession(core, 1);
    }
  }

  /**
   * Attends the queries of one sequence, or one query each of up to MOST_SLOTS that may share a call; gives their o rows.
   * A query that is the only one of its sequence has the same bits in any call.
   */
  async attend(pieces: readonly Queries[]): Promise<Float32Array> {
    const [first] = pieces as [Queries];
    return goesByItself(first) ? await this.#decode(first.core, pieces) : await this.#chunk(first);
  }

  /** Masks are equal in all layers of a step; after it they are of no use. */
  endStep(): void {
    if (this.#masks.size > 0) this.#masks = new Map();
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).release();
  }

  async #chunk({ core, cache, start, count, query }: Queries): Promise<Float32Array> {
    const shape = { start, queries: count, firstKey: core.sinks ? 0 : oldestKey(core, start) };
    const { keys, values, rows } = cache.view(shape.firstKey, start + count);
    const feeds: Record<string, Tensor> = {
      q: new Tensor("float32", query, [1, count, core.heads * core.headSize]),
      k: new Tensor("float32", keys, [1, rows, core.kvHeads * core.headSize]),
      v: new Tensor("float32", values, [1, rows, core.kvHeads * core.valueHeadSize]),
      length: new Tensor("int64", BigInt64Array.of(BigInt(rows)), [1]),
    };
    const masked = needsMask(core, shape);
    if (masked) {
      const mask = this.#mask(core, shape);
      feeds["mask"] = new Tensor("float32", mask.values, mask.dims);
    }
    const session = await this.#chunkSession(core, masked);
    return (await session.run(feeds))["o"]!.data as Float32Array;
  }

  /** All of the geometry of `core`, in a session with slots for a power of two; slots left over attend one key of zeros. */
  async #decode(core: CoreSpec, pieces: readonly Queries[]): Promise<Float32Array> {
    const slots = 2 ** Math.ceil(Math.log2(pieces.length));
    const [width, keyWidth, valueWidth] = [
      core.heads * core.headSize,
      core.kvHeads * core.headSize,
      core.kvHeads * core.valueHeadSize,
    ];
    const query = new Float32Array(slots * width);
    const feeds: Record<string, Tensor> = { q: new Tensor("float32", query, [1, slots, width]) };
    pieces.forEach((piece, slot) => {
      query.set(piece.query, slot * width);
      const { keys, values, rows } = piece.cache.view(oldestKey(piece.core, piece.start), piece.start + 1);
      feeds[`k.${slot}`] = new Tensor("float32", keys, [1, rows, keyWidth]);
      feeds[`v.${slot}`] = new Tensor("float32", values, [1, rows, valueWidth]);
    });
    for (let slot = pieces.length; slot < slots; slot++) {
      feeds[`k.${slot}`] = new Tensor("float32", new Float32Array(keyWidth), [1, 1, keyWidth]);
      feeds[`v.${slot}`] = new Tensor("float32", new Float32Array(valueWidth), [1, 1, valueWidth]);
    }
    const session = await this.#decodeSession(core, slots);
    const o = (await session.run(feeds))["o"]!.data as Float32Array;
    return o.subarray(0, pieces.length * core.heads * core.valueHeadSize);
  }

  async #chunkSession(core: CoreSpec, masked: boolean): Promise<InferenceSession> {
    return await this.#session(`${geometryOf(core)} ${masked}`, () => coreModel(core, masked));
  }

  async #decodeSession(core: CoreSpec, slots: number): Promise<InferenceSession> {
    return await this.#session(`${geometryOf(core)} ${slots}`, () => decodeCoreModel(core, slots));
  }

  async #session(key: string, model: () => Uint8Array): Promise<InferenceSession> {
    const session = this.#sessions.get(key) ?? InferenceSession.create(model(), runtimeOptions(this.#threads));
    this.#sessions.set(key, session);
    try {
      return await session;
    } catch (error) {
      this.#sessions.delete(key);
      throw error;
    }
  }

  #mask(core: CoreSpec, shape: { start: number; queries: number; firstKey: number }): AttentionMask {
    const key = JSON.stringify([core.window, core.alibiSlopes, core.sinks, shape.start, shape.queries]);
    const mask = this.#masks.get(key) ?? attentionMask(core, shape);
    this.#masks.set(key, mask);
    return mask;
  }
}

/** One row over keys that it sees all: where each needs a mask of its own there are no slots. */
function goesByItself({ core: { alibiSlopes, sinks }, count }: Pick<Queries, "core" | "count">): boolean {
  return count === 1 && !alibiSlopes && !sinks;
}

/** May the queries of two sequences be attended in one call? */
export function mayShareCall(a: Queries, b: Queries): boolean {
  return goesByItself(a) && goesByItself(b) && geometryOf(a.core) === geometryOf(b.core);
}

/** The first token whose key the query of token `position` sees. */
function oldestKey({ window }: CoreSpec, position: number): number {
  return window === null ? 0 : Math.max(0, position - window + 1);
}

const geometries = new WeakMap<CoreSpec, string>();

/** Cores of equal geometry have the same sessions. */
function geometryOf(core: CoreSpec): string {
  const { heads, kvHeads, headSize, valueHeadSize, scale, softcap } = core;
  const geometry = geometries.get(core) ?? [heads, kvHeads, headSize, valueHeadSize, scale, softcap].join(" ");
  geometries.set(core, geometry);
  return geometry;
}
