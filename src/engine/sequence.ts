import type { Stretch } from "../chain/stretches.ts";
import { DEFAULT_POLICY, type EngineRequest, type ServedModel, type TenantPolicy } from "./request.ts";
import { rankOf } from "./schedule/priority.ts";
import { Sampler } from "./execute/sampler.ts";
import { capacityFor } from "./kv/capacity.ts";
import type { PageClaim } from "./kv/page-ledger.ts";
import { prefixKeys, prefixOwner, type PrefixOwner } from "./kv/prefix-keys.ts";
import { DraftLength } from "./speculate/draft-length.ts";
import { Waits } from "./waits.ts";

/** A request that has waited so long is passed by none that came later, whatever its deadline. */
const PATIENCE_MS = 30_000;

/** The engine's state of one request: prompt and answer as one list of tokens, and how many of them are cached. */
export class Sequence {
  readonly id: number;
  model: ScheduledModel;
  readonly tenant: string;
  readonly policy: TenantPolicy;
  /** ms since 1970. */
  readonly arrived: number;
  readonly deadline: number;
  readonly tokens: number[];
  readonly promptLength: number;
  /** Tokens in all after which it ends with reason `length`. */
  readonly maxLength: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly sampler: Sampler;
  readonly drafting = new DraftLength();
  readonly waits: Waits;
  /** Tokens whose keys and values are cached; the rest are still to be fed. 0 again when it had to yield. */
  cached = 0;
  /** The most tokens ever cached: what lies below is a replay, and not charged to the tenant again. */
  computed = 0;
  #computedBefore = 0;
  /** Tokens of the prompt that were found cached at its start. */
  reused = 0;
  cancelled = false;
  /** Of its class, as it has aged: 0 goes first (schedule/priority.ts). */
  rank: number;
  #prefixKeys: string[][] | null = null;

  /** `id` also says who came first. */
  constructor(id: number, request: EngineRequest, { model, now }: { model: ScheduledModel; now: number }) {
    this.id = id;
    this.model = model;
    this.tenant = request.tenant ?? "";
    this.policy = { ...DEFAULT_POLICY, ...request.policy };
    this.arrived = now;
    this.deadline = request.deadline ?? Infinity;
    this.waits = new Waits(now);
    this.rank = rankOf(this.policy.priority, { arrived: now, now });
    this.tokens = [...request.tokens];
    this.promptLength = request.tokens.length;
    this.maxLength = Math.min(this.promptLength + request.maxTokens, model.contextLength);
    this.stopTokens = new Set([...(request.ignoreEnd ? [] : model.endTokens), ...(request.stopTokens ?? [])]);
    this.sampler = new Sampler(request.sampling ?? {}, request.tokens);
  }

  /** Its chain is the same, but where the models of the plan part ways is not. */
  replan(stretches: ScheduledModel["stretches"]): void {
    this.model = { ...this.model, stretches };
    this.#prefixKeys = null;
  }

  /** It is admitted, for the first time or again, with what was found of its state. */
  beginTurn(): void {
    this.#computedBefore = this.computed;
  }

  /** Computed since it was admitted, without what it or others had computed before. */
  get freshTokens(): number {
    return this.computed - this.#computedBefore;
  }

  /** Its first `tokens` tokens are now cached. */
  advance(tokens: number): void {
    this.cached = tokens;
    this.computed = Math.max(this.computed, tokens);
  }

  /** Of the prompt's whole chunks (kv/prefix-keys.ts); none where the model's state stays with the sequence. */
  get prefixKeys(): string[][] {
    const { stretches, prefillChunk: chunk } = this.model;
    if (stretches.length === 0) return [];
    const owner = this.prefixOwner;
    const prompt = (): number[] => this.tokens.slice(0, this.promptLength);
    return (this.#prefixKeys ??= prefixKeys(prompt(), { stretches, owner, chunk }));
  }

  get prefixOwner(): PrefixOwner {
    return prefixOwner(this.tenant, this.policy.group);
  }

  /** Pages for its first `tokens` tokens. */
  claimFor(tokens: number): PageClaim {
    const { bytesPerToken, leadTokens, byCapacity } = this.model;
    const rows = byCapacity ? capacityFor(tokens) : tokens;
    return { holder: this.id, tokens: rows + leadTokens, bytesPerToken };
  }

  /** When its turn should have come, ms since 1970: what must be done soon goes before what has just come. */
  get due(): number {
    return Math.min(this.deadline, this.arrived + PATIENCE_MS);
  }

  get completionTokens(): number {
    return this.tokens.length - this.promptLength;
  }
}

export interface ScheduledModel extends ServedModel {
  /** What the executor knows it by: a name means other models at other times, a key never. */
  key: string;
  /** Keys and values one cached token takes. */
  bytesPerToken: number;
  /** Rows before the first token of every sequence: 1 where a core has sinks; an opaque model's state that does not grow. */
  leadTokens: number;
  /** Rows of one prefill call; an opaque model takes its prompt whole. */
  prefillChunk: number;
  /** Several rows of a sequence share a run and can be forgotten again: a draft may pay. */
  speculates: boolean;
  /** What is kept of its prompts, cut where models go different ways (chain/stretches.ts); empty: nothing. */
  stretches: readonly Stretch[];
  /** Its caches come in capacities (kv/capacity.ts), not page by page. */
  byCapacity?: boolean;
}
