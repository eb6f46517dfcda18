import { freemem } from "node:os";
import type { RotarySpec } from "../../blocks/block.ts";
import type { BlockChain } from "../../chain/chain.ts";
import { planChains } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { reasonOf } from "../../support/reason.ts";
import { runsSolo } from "./solo-graph.ts";
import { SoloSession } from "./solo-session.ts";

/** Tokens that a chain must have decoded alone before memory is spent on doing it faster. */
const WORTHWHILE_TOKENS = 16;
/** A session takes its weights twice while it is made; as much again stays free for others. */
const LEAST_FREE = 3;

export interface SoloOptions {
  threads: number;
  /** One object per distinct specification. */
  rotationsOf: (chain: BlockChain) => RotarySpec[];
  /** Bytes of memory that nobody needs; default: what the machine has free. */
  spareBytes?: () => number;
}

/**
 * Which chain has a session of its own for decoding alone: at most one, that of the chain that was last seen alone long
 * enough, and only while there is plenty of memory. It changes the speed of a sequence, never its bits.
 */
export class SoloSessions {
  readonly #source: BlockSource;
  readonly #options: SoloOptions;
  #loaded: { chain: BlockChain; session: SoloSession } | null = null;
  #seen: { chain: BlockChain; tokens: number } | null = null;

  constructor(source: BlockSource, options: SoloOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** The session of a chain that decodes one token alone now; null: it has none. */
  take(chain: BlockChain): SoloSession | null {
    if (this.#loaded?.chain === chain) return this.#loaded.session;
    if (this.#seen?.chain !== chain) this.#seen = { chain, tokens: 0 };
    this.#seen.tokens++;
    return null;
  }

  /** Loads a session where one was missed; only while no sequence runs. */
  async whileIdle(): Promise<void> {
    const seen = this.#seen;
    this.#seen = null;
    if (seen !== null && seen.tokens >= WORTHWHILE_TOKENS) await this.load(seen.chain);
  }

  /** In place of the one there is. Does nothing where the chain cannot run so or memory is short. */
  async load(chain: BlockChain): Promise<void> {
    const spare = (this.#options.spareBytes ?? freemem)();
    if (!runsSolo(chain) || LEAST_FREE * planChains([chain]).bytes > spare) return;
    await this.close();
    const { threads, rotationsOf } = this.#options;
    try {
      const session = await SoloSession.load(chain, this.#source, { threads, rotations: rotationsOf(chain) });
      this.#loaded = { chain, session };
    } catch (error) {
      // The chain runs without it: slower, and as right.
      process.emitWarning(`${chain.name} gets no session of its own: ${reasonOf(error)}`);
    }
  }

  /** The model whose session there is. */
  get model(): string | null {
    return this.#loaded?.chain.name ?? null;
  }

  async close(): Promise<void> {
    await this.#loaded?.session.close();
    this.#loaded = null;
  }
}
