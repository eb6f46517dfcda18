import type { Digest } from "../../blocks/block.ts";
import type { ChainEntry, ModelDocument } from "../../store/model-document.ts";
import type { Replacement } from "../../store/find-replacements.ts";
import { answerAccuracy, type AnswerAccuracy } from "./answer-accuracy.ts";
import { type BlockedChain, canBeEntered, resolveBlocks } from "./chain-stretch.ts";
import type { Merge } from "./choose-merges.ts";
import { compareRows, type Drift, type DriftBudget } from "./drift.ts";
import { driftFromRecording, driftSideBySide, noDrift, record, type Recording } from "./measure-drift.ts";
import { type AskedPrompt, type MeasuredModel, sequenceOf } from "./measured-model.ts";
import type { PartSessions } from "./part-sessions.ts";
import { runStretch } from "./run-stretch.ts";
import { chainKey, firstChange, swapBlocks } from "./swapped-chain.ts";

/** A model that may be changed: as split, and as it is now. */
export interface TriedModel extends MeasuredModel {
  current: ModelDocument;
  /** Lines of the calibration that ask what another one asks. */
  repeated: number;
}

export type PromptPart = "choosing" | "heldOut";

/** Recordings of all models together. */
const MOST_RECORDED_BYTES = 2 ** 30;

/** Measures models with merges in them against the models as split. Nothing is run twice. */
export class DriftBench {
  readonly models: readonly TriedModel[];
  readonly #sessions: PartSessions;
  readonly #signal: AbortSignal | undefined;
  readonly #recordings = new Map<TriedModel, Recording>();
  readonly #drifts = new Map<string, Drift>();

  constructor(models: readonly TriedModel[], sessions: PartSessions, signal?: AbortSignal) {
    this.models = models;
    this.#sessions = sessions;
    this.#signal = signal;
  }

  /** Models in which something runs that did not run before; because of `merge` alone, where it is given. */
  changedBy(merges: readonly Merge[], merge?: Merge): TriedModel[] {
    const without = merge === undefined ? [] : merges.filter((one) => one !== merge);
    return this.models.filter(
      ({ current }) => chainKey(swapBlocks(current.chain, merges)) !== chainKey(swapBlocks(current.chain, without)),
    );
  }

  /** Mean cosine of what both blocks give for the same rows, in the model where it is least; below `threshold` the first. */
  async outputCosine({ block, by }: Pick<Replacement, "block" | "by">, threshold: number): Promise<number> {
    let least = 1;
    for (const model of this.models) {
      const places = model.current.chain.flatMap((entry, at) => (entry.digest === block && !entry.adapter ? [at] : []));
      for (const at of places) {
        least = Math.min(least, await this.#cosineAt(model, at, by));
        if (!(least >= threshold)) return least;
      }
    }
    return least;
  }

  /** Not exact beyond `budget`, where one is given: it stops there. */
  async drift(
    model: TriedModel,
    merges: readonly Merge[],
    { part, budget }: { part: PromptPart; budget?: DriftBudget },
  ): Promise<Drift> {
    const chain = swapBlocks(model.current.chain, merges);
    if (chainKey(chain) === chainKey(model.document.chain)) return noDrift(this.#prompts(model, part));
    const key = `${model.name} ${part} ${JSON.stringify(budget ?? {})} ${chainKey(chain)}`;
    const drift = this.#drifts.get(key) ?? (await this.#measure(model, chain, { part, budget }));
    this.#drifts.set(key, drift);
    return drift;
  }

  /** On the prompts that merges were not chosen by. */
  async accuracy(model: TriedModel, merges: readonly Merge[]): Promise<AnswerAccuracy | null> {
    const changed = await this.#resolve(model, swapBlocks(model.current.chain, merges));
    return await answerAccuracy(this.#sessions, { model, changed }, { prompts: model.heldOut, signal: this.#signal });
  }

  #prompts(model: TriedModel, part: PromptPart): AskedPrompt[] {
    return part === "choosing" ? this.#choosingPrompts(model) : model.heldOut;
  }

  /** As many as their recording has room for. */
  #choosingPrompts(model: TriedModel): AskedPrompt[] {
    const rowBytes = model.chain.chain.steps.reduce((sum, step) => {
      const output = step.kind === "part" ? step.part.outputs.find(({ name }) => LEAVING.has(name)) : undefined;
      return sum + 4 * (output?.width ?? 0);
    }, 0);
    let room = MOST_RECORDED_BYTES / this.models.length / rowBytes;
    return model.choosing.filter((prompt, at) => (room -= sequenceOf(prompt).length) >= 0 || at === 0);
  }

  async #measure(
    model: TriedModel,
    chain: ChainEntry[],
    { part, budget }: { part: PromptPart; budget: DriftBudget | undefined },
  ): Promise<Drift> {
    const signal = this.#signal;
    const changed = await this.#resolve(model, chain);
    if (part === "heldOut") {
      return await driftSideBySide(this.#sessions, { model, changed }, { prompts: model.heldOut, budget, signal });
    }
    const recording = await this.#recording(model);
    const first = Math.min(firstChange(model.document.chain, chain), chain.length - 1);
    const from = canBeEntered(changed, first) ? first : 0;
    const { prefillChunk } = model;
    return await driftFromRecording(this.#sessions, { changed, from, prefillChunk }, { recording, budget, signal });
  }

  async #cosineAt(model: TriedModel, at: number, by: Digest): Promise<number> {
    const recording = await this.#recording(model);
    const chain = model.document.chain.map((entry, place) => (place === at ? { ...entry, digest: by } : entry));
    const changed = await this.#resolve(model, chain);
    const from = canBeEntered(changed, at) ? at : 0;
    const before = recording.blocks[at]!;
    let [sum, count] = [0, 0];
    const run = {
      from,
      to: at + 1,
      sequences: recording.prompts.map(sequenceOf),
      recorded: from === 0 ? undefined : recording.blocks[from - 1],
      prefillChunk: model.prefillChunk,
      lastOnly: true,
      signal: this.#signal,
    };
    for await (const { firstRow, rowCount, blocks } of runStretch(this.#sessions, changed, run)) {
      const { values, width } = blocks.at(-1)!;
      const same = before.values.subarray(firstRow * width, (firstRow + rowCount) * width);
      sum += compareRows(same, values, width).mean * rowCount;
      count += rowCount;
    }
    return sum / count;
  }

  async #recording(model: TriedModel): Promise<Recording> {
    const kept = this.#recordings.get(model);
    if (kept) return kept;
    const prompts = this.#choosingPrompts(model);
    const made = await record(this.#sessions, model, { prompts, signal: this.#signal });
    this.#recordings.set(model, made);
    return made;
  }

  async #resolve({ name, document }: TriedModel, chain: ChainEntry[]): Promise<BlockedChain> {
    return await resolveBlocks(this.#sessions.source, { name, document: { ...document, chain } });
  }
}

const LEAVING = new Set(["hidden_out", "logits"]);
