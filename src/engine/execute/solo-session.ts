import { dirname } from "node:path";
import { type InferenceSession, Tensor } from "onnxruntime-node";
import type { CoreSpec, RotarySpec } from "../../blocks/block.ts";
import type { BlockChain } from "../../chain/chain.ts";
import { liftTables } from "../../chain/lift-tables.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import type { RotaryRows } from "../../chain/rotary-rows.ts";
import type { SequenceCache } from "../kv/sequence-cache.ts";
import { withEvenRows } from "./even-rows.ts";
import { openSession } from "./rebuilt-weights.ts";
import { soloGraph, type SoloRows } from "./solo-graph.ts";
import { TableRows } from "./table-rows.ts";

/** One token of one sequence. */
export interface SoloToken {
  token: number;
  position: number;
  cache: SequenceCache;
  /** Of the position, for a rotation of `load`. */
  rotaryRows: (rotary: RotarySpec) => RotaryRows;
}

interface SoloForm {
  rotations: readonly RotarySpec[];
  rows: SoloRows;
}

/**
 * A whole chain in one session, for a sequence that decodes alone: one call a token instead of two a layer, whose hand-overs
 * between threads cost more than the work of one row. The weights are held a second time.
 */
export class SoloSession {
  readonly #session: InferenceSession;
  readonly #tables: TableRows;
  readonly #cores: readonly CoreSpec[];
  readonly #rotations: readonly RotarySpec[];
  readonly #rows: SoloRows;

  private constructor(
    { session, tables }: { session: InferenceSession; tables: TableRows },
    chain: BlockChain,
    { rotations, rows }: SoloForm,
  ) {
    this.#session = session;
    this.#tables = tables;
    this.#cores = chain.cores;
    this.#rotations = rotations;
    this.#rows = rows;
  }

  static async load(
    chain: BlockChain,
    source: BlockSource,
    { threads, rotations, rows }: SoloForm & { threads: number },
  ): Promise<SoloSession> {
    const { model, lifted } = liftTables(await soloGraph(chain, rotations, { source, rows }));
    const first = chain.steps.find((step) => step.kind === "part")!;
    const folder = dirname(source.blobs.path(first.part.graph));
    const session = await openSession(model, { folder, threads });
    return new SoloSession({ session, tables: TableRows.open(lifted) }, chain, { rotations, rows });
  }

  /** Appends the token to the cache, which must have room; gives float32 logits [vocabulary]. */
  async run({ token, position, cache, rotaryRows }: SoloToken): Promise<Float32Array> {
    const ofToken: Record<string, Tensor> = { ids: new Tensor("int64", BigInt64Array.of(BigInt(token)), [1, 1]) };
    if (this.#session.inputNames.includes("positions") || this.#tables.take("positions"))
      ofToken["positions"] = new Tensor("int64", BigInt64Array.of(BigInt(position)), [1, 1]);
    this.#rotations.forEach((rotary, index) => {
      const { cos, sin } = rotaryRows(rotary);
      ofToken[`cos.${index}`] = new Tensor("float32", cos, [1, 1, cos.length]);
      ofToken[`sin.${index}`] = new Tensor("float32", sin, [1, 1, sin.length]);
    });
    const feeds = this.#rows === 2 ? withEvenRows(ofToken) : ofToken;
    this.#cores.forEach((core, layer) => this.#feedPast(feeds, { core, layer, position, cache }));
    const outputs = await this.#session.run(this.#tables.feed(feeds, this.#session.inputNames));
    cache.layers.forEach((rows, layer) =>
      rows.write(
        position,
        outputs[`keys.${layer}`]!.data as Float32Array,
        outputs[`values.${layer}`]!.data as Float32Array,
      ),
    );
    const logits = outputs["logits"]!.data as Float32Array;
    return logits.subarray(0, logits.length / this.#rows);
  }

  async close(): Promise<void> {
    this.#tables.close();
    await this.#session.release();
  }

  #feedPast(
    feeds: Record<string, Tensor>,
    { core, layer, position, cache }: { core: CoreSpec; layer: number; position: number; cache: SequenceCache },
  ): void {
    const first = core.window === null ? 0 : Math.max(0, position - core.window + 1);
    const { keys, values, rows } = cache.layers[layer]!.view(first, position);
    feeds[`past_keys.${layer}`] = new Tensor("float32", keys, [1, rows, core.kvHeads * core.headSize]);
    feeds[`past_values.${layer}`] = new Tensor("float32", values, [1, rows, core.kvHeads * core.valueHeadSize]);
  }
}
