import { InferenceSession } from "onnxruntime-node";
import type { OpaqueSpec } from "../../blocks/block.ts";
import type { BatchItem, Executor, Needs } from "../../engine/execute/executor.ts";
import { runtimeOptions } from "../../engine/execute/runtime-options.ts";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import { choosePadding } from "./choose-padding.ts";
import { joinRows, type PaddedState, type Padding, stateBytes } from "./padded-state.ts";
import { runWhole, type WholeModelFile } from "./run-whole.ts";

interface Held {
  tokens: number;
  /** null: nothing cached yet. */
  home: { state: PaddedState; row: number } | null;
}

/**
 * One model in one session, as a deployment of it alone would run it: prompts one by one, then one call per step for
 * all sequences that decode. Their keys and values go round as the session gave them, and are laid out anew only when
 * a sequence joins or leaves. Where the graph gives wrong rows for padded batches, sequences run one by one.
 */
export class WholeModelExecutor implements Executor {
  /** A deployment of one model has it loaded for good. */
  readonly needs: Needs = new Map();
  readonly #file: WholeModelFile;
  readonly #padding: Padding | null;
  readonly #sequences = new Map<number, Held>();

  private constructor(file: WholeModelFile, padding: Padding | null) {
    this.#file = file;
    this.#padding = padding;
  }

  static async load(given: {
    graph: string;
    spec: OpaqueSpec;
    vocabSize: number;
    threads: number;
  }): Promise<WholeModelExecutor> {
    const { graph, spec, vocabSize, threads } = given;
    try {
      const session = await InferenceSession.create(graph, runtimeOptions(threads));
      const file = { session, spec, vocabSize };
      return new WholeModelExecutor(file, await choosePadding(file));
    } catch (cause) {
      throw new BlockllmError("model_unsupported", `ONNX Runtime cannot run ${graph}: ${reasonOf(cause)}`, { cause });
    }
  }

  open(sequence: number): void {
    this.#sequences.set(sequence, { tokens: 0, home: null });
  }

  async execute(items: BatchItem[]): Promise<Float32Array[]> {
    const logits = new Map<BatchItem, Float32Array>();
    const together = items.filter((item) => this.#padding !== null && item.start > 0 && item.tokens.length === 1);
    for (const item of items) if (!together.includes(item)) logits.set(item, await this.#runAlone(item));
    if (together.length > 0) {
      // In the order in which they came, so that the batch stays the same while nobody joins or leaves.
      const batch = together.toSorted((a, b) => a.sequence - b.sequence);
      const rows = await this.#run(batch);
      batch.forEach((item, row) => logits.set(item, rows[row]!));
    }
    return items.map((item) => logits.get(item)!);
  }

  release(sequence: number): void {
    this.#sequences.delete(sequence);
  }

  stateBytes(): number {
    const states = new Set([...this.#sequences.values()].flatMap(({ home }) => home?.state ?? []));
    return [...states].reduce((sum, state) => sum + stateBytes(state), 0);
  }

  readState(): Float32Array {
    return refuse();
  }

  writeState(): void {
    refuse();
  }

  truncate(): void {
    refuse();
  }

  async close(): Promise<void> {
    this.#sequences.clear();
    await this.#file.session.release();
  }

  async #runAlone(item: BatchItem): Promise<Float32Array> {
    const stride = item.stepwise ? 1 : item.tokens.length;
    let row: Float32Array = new Float32Array(0);
    for (let from = 0; from < item.tokens.length; from += stride) {
      [row] = (await this.#run([{ ...item, tokens: item.tokens.slice(from, from + stride) }])) as [Float32Array];
    }
    return row;
  }

  /** One call; every item has as many tokens as the others. Gives the last row of each. */
  async #run(items: BatchItem[]): Promise<Float32Array[]> {
    const held = items.map(({ sequence }) => this.#sequences.get(sequence)!);
    const padding = this.#padding ?? "left";
    const past = joinRows(this.#file.spec, padding, held);
    const { rows, state } = await runWhole(this.#file, { padding, past, tokens: items.map(({ tokens }) => tokens) });
    held.forEach((one, row) => {
      one.tokens += items[row]!.tokens.length;
      one.home = { state, row };
    });
    return items.map(({ logits }, row) => (logits === "none" ? new Float32Array(0) : rows[row]!));
  }
}

function refuse(): never {
  throw new Error("a whole model keeps its state whole; it has no tokens to take out or put in");
}
