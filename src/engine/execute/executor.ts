import type { Port } from "../../blocks/block.ts";
import type { Parting } from "../../chain/stretches.ts";
import type { BlockllmError } from "../../support/errors.ts";

/** What an executor can be without for a while: a segment's session, an opaque model. Never called during a run. */
export interface Loadable {
  /** Equal keys compute the same. */
  readonly key: string;
  /** Memory it takes while it is loaded, at most (memory/session-bytes.ts). */
  readonly bytes: number;
  readonly isLoaded: boolean;
  /** Room to compute in: no segment. */
  readonly isSpace?: boolean;
  /** Errors: blob_missing, repository_invalid, model_unsupported naming the part. */
  load(): Promise<void>;
  unload(): Promise<void>;
}

/** Model key → what it cannot run without. */
export type Needs = ReadonlyMap<string, readonly Loadable[]>;

/**
 * What the engine drives: something that turns a batch of tokens into logits and keeps the state of sequences between
 * batches. One call at a time. The engine accounts the memory; an executor only uses what was claimed.
 */
export interface Executor {
  /** What each model needs before it runs; the executor loads none of it by itself. */
  readonly needs: Needs;

  /** Begins an empty sequence of at most `maxTokens`. Takes no memory yet. */
  open(sequence: number, options: { model: string; maxTokens: number }): void;

  /**
   * Runs all items and appends their tokens to the sequences' states: one per sequence, or several chunks of its prompt, one
   * behind the other, where its model takes prompts in chunks and its caches do not come in capacities. Gives per item
   * float32 logits [rows, vocabulary]: 0, 1 or all rows as the item asked; valid until the next `execute`. The rows of an
   * item are the same bit for bit whatever other items are in the batch. Error: PartlyFailed; any other is of all items,
   * whose states are then unknown.
   */
  execute(items: BatchItem[]): Promise<Float32Array[]>;

  /**
   * The same in shares, which are executed at the same time: as many as are measured to be fastest, down to one. Null: it can
   * only be executed as one batch.
   */
  shareOut?(items: BatchItem[]): SharedOut | null;

  /** A copy of some state. Only for models whose state is kept token by token. */
  readState(sequence: number, range: StateRange): Float32Array;

  /** Continues a sequence of `from` tokens with state read from another one of equal tokens; values behind it are ignored. */
  writeState(sequence: number, range: StateRange, state: Float32Array): void;

  /** Forgets all but a sequence's first `tokens`. Only for models whose state is kept token by token. */
  truncate(sequence: number, tokens: number): void;

  /** Forgets a sequence and gives its memory back. Unknown sequences are ignored. */
  release(sequence: number): void;

  /** Bytes of state that sequences hold now. */
  stateBytes(): number;

  /** Called while no sequence runs: time for what makes later calls faster, in `spareBytes` that nobody needs. */
  whileIdle?(spareBytes: number): Promise<void>;

  /** What it loaded so. It runs as well without: it may be unloaded between any two calls. */
  readonly extras?: readonly Loadable[];

  /** How many batches ran in shares of more than one. */
  readonly laneBatches?: number;

  /** How often the device that it runs on was lost. */
  readonly deviceLosses?: number;

  /** Frees sessions. No sequence may be used after. */
  close(): Promise<void>;
}

/** A batch in shares, each with all items of some sequences. */
export interface SharedOut {
  shares: readonly Share[];
  /** When all shares are done with all that they were given: how long that took counts for the next batches. */
  done: () => void;
}

export interface Share {
  items: BatchItem[];
  /**
   * As Executor.execute, first with the share's items, then with whatever its sequences go on with. One call at a time, of each
   * share; nothing else may touch its sequences meanwhile.
   */
  execute: (items: BatchItem[]) => Promise<Float32Array[]>;
}

/** Of a batch in which some items failed: per item its logits, or its error. */
export class PartlyFailed extends Error {
  readonly results: readonly (Float32Array | BlockllmError)[];

  constructor(results: readonly (Float32Array | BlockllmError)[]) {
    super("some items of the batch failed");
    this.results = results;
  }
}

export interface BatchItem {
  sequence: number;
  tokens: readonly number[];
  /** Position of the first token; equals the tokens this sequence was given before. */
  start: number;
  logits: "none" | "last" | "all";
  /**
   * Each row passes the attention core by itself, as it did when it was decoded: one query row rounds differently from
   * several, so a replay must repeat the calls of the first run.
   */
  stepwise: boolean;
  /**
   * Rows that reach a step of the chain, so that it may begin there: keys and values of all layers before it were
   * written. Who cannot begin there begins at the start and comes to the same.
   */
  begin?: { step: number; ports: readonly Port[]; rows: Float32Array };
  /** The rows that reach these steps are wanted. Who does not come by gives none. */
  partings?: readonly Parting[];
  /** Gets a copy of them: port after port, each [tokens, width]. */
  keepRows?: (step: number, rows: Float32Array) => void;
}

/** State of tokens [from, to), of layers [first, end); without `layers` of all. */
export interface StateRange {
  from: number;
  to: number;
  layers?: { first: number; end: number };
}
