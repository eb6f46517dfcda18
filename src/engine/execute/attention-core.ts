import { InferenceSession, Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../blocks/block.ts";
import type { LayerCache } from "../kv/sequence-cache.ts";
import { attentionMask, needsMask, type AttentionMask } from "./attention-mask.ts";
import { coreModel } from "./core-model.ts";
import { runtimeOptions } from "./runtime-options.ts";

/**
 * The weightless attention cores: one session per geometry serves every layer of every chain. Operator `Attention` of
 * opset 24 with exact-length keys and values and `nonpad_kv_seqlen`, so that queries are the last rows of the keys.
 */
export class AttentionCores {
  readonly #threads: number;
  readonly #sessions = new Map<string, InferenceSession>();
  #masks = new Map<string, AttentionMask>();

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** Those of the geometries that are not there yet. Safe beside `attend`. */
  async load(cores: readonly CoreSpec[]): Promise<void> {
    for (const core of cores) {
      for (const masked of core.window || core.alibiSlopes || core.sinks ? [true, false] : [false]) {
        const key = sessionKey(core, masked);
        if (this.#sessions.has(key)) continue;
        this.#sessions.set(key, await InferenceSession.create(coreModel(core, masked), runtimeOptions(this.#threads)));
      }
    }
  }

  /** Attends query rows [queries, heads × headSize], the last ones of `cache`, from position `start`; gives o rows. */
  async attend(
    core: CoreSpec,
    cache: LayerCache,
    { start, query }: { start: number; query: Float32Array },
  ): Promise<Float32Array> {
    const queries = query.length / (core.heads * core.headSize);
    const firstKey = core.window === null || core.sinks ? 0 : Math.max(0, start - core.window + 1);
    const { keys, values, rows } = cache.view(firstKey, start + queries);
    const feeds: Record<string, Tensor> = {
      q: new Tensor("float32", query, [1, queries, core.heads * core.headSize]),
      k: new Tensor("float32", keys, [1, rows, core.kvHeads * core.headSize]),
      v: new Tensor("float32", values, [1, rows, core.kvHeads * core.valueHeadSize]),
      length: new Tensor("int64", BigInt64Array.of(BigInt(rows)), [1]),
    };
    const masked = needsMask(core, { start, queries, firstKey });
    if (masked) {
      const mask = this.#mask(core, { start, queries, firstKey });
      feeds["mask"] = new Tensor("float32", mask.values, mask.dims);
    }
    const { o } = await this.#sessions.get(sessionKey(core, masked))!.run(feeds);
    return o!.data as Float32Array;
  }

  /** Masks are equal in all layers of a step; after it they are of no use. */
  endStep(): void {
    if (this.#masks.size > 0) this.#masks = new Map();
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await session.release();
  }

  #mask(core: CoreSpec, shape: { start: number; queries: number; firstKey: number }): AttentionMask {
    const key = JSON.stringify([core.window, core.alibiSlopes, core.sinks, shape.start, shape.queries]);
    const mask = this.#masks.get(key) ?? attentionMask(core, shape);
    this.#masks.set(key, mask);
    return mask;
  }
}

function sessionKey(core: CoreSpec, masked: boolean): string {
  return [core.heads, core.kvHeads, core.headSize, core.valueHeadSize, core.scale, core.softcap, masked].join(" ");
}
