import { freemem } from "node:os";
import type { RotarySpec } from "../../blocks/block.ts";
import type { BlockChain } from "../../chain/chain.ts";
import { planChains } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { freeBuffers } from "../../support/free-buffers.ts";
import { reasonOf } from "../../support/reason.ts";
import { segmentBytes } from "../memory/segment-bytes.ts";
import type { Loadable } from "./executor.ts";
import type { RowSharing } from "./row-sharing.ts";
import { runsSolo, type SoloRows } from "./solo-graph.ts";
import { SoloSession } from "./solo-session.ts";

/** Tokens that a chain must have decoded alone before memory is spent on doing it faster. */
const WORTHWHILE_TOKENS = 16;
/** A session takes its weights twice while it is made; as much again stays free for others. */
const LEAST_FREE = 3;

export interface SoloOptions {
  threads: number;
  /** One object per distinct specification. */
  rotationsOf: (chain: BlockChain) => RotarySpec[];
  /** null: of its parts some take rows in pairs and some one by one. */
  rowsOf: (chain: BlockChain) => SoloRows | null;
}

/**
 * Which chain has a session of its own for decoding alone: at most one, that of the chain that was last seen alone long
 * enough, and only while there is plenty of memory. It changes the speed of a sequence, never its bits.
 */
export class SoloSessions {
  readonly #source: BlockSource;
  readonly #options: SoloOptions;
  #loaded: { chain: BlockChain; session: SoloSession; bytes: number } | null = null;
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

  /** As if it had been seen alone for long enough. */
  expect(chain: BlockChain): void {
    this.#seen = { chain, tokens: WORTHWHILE_TOKENS };
  }

  /** Loads a session where one was missed and memory that nobody needs is plenty; only while no sequence runs. */
  async whileIdle(spareBytes: number): Promise<void> {
    const seen = this.#seen;
    this.#seen = null;
    if (seen !== null && seen.tokens >= WORTHWHILE_TOKENS) await this.#load(seen.chain, spareBytes);
  }

  /** In place of the one there is. Does nothing where the chain cannot run so or memory is short. */
  async #load(chain: BlockChain, spareBytes: number): Promise<void> {
    const spare = Math.min(spareBytes, freemem());
    const { threads, rotationsOf, rowsOf } = this.#options;
    const rows = rowsOf(chain);
    if (!runsSolo(chain) || rows === null || LEAST_FREE * planChains([chain]).bytes > spare) return;
    await this.close();
    try {
      const bytes = await soloBytes(chain, this.#source);
      const session = await SoloSession.load(chain, this.#source, { threads, rotations: rotationsOf(chain), rows });
      this.#loaded = { chain, session, bytes };
      freeBuffers();
    } catch (error) {
      // The chain runs without it: slower, and as right.
      process.emitWarning(`${chain.name} gets no session of its own: ${reasonOf(error)}`);
    }
  }

  /** The session there is, as something that may be unloaded; it is not loaded again by itself. */
  get loaded(): readonly Loadable[] {
    if (!this.#loaded) return [];
    const { chain, session, bytes } = this.#loaded;
    const isLoaded = (): boolean => this.#loaded?.session === session;
    return [
      {
        key: `solo ${chain.key}`,
        bytes,
        get isLoaded() {
          return isLoaded();
        },
        load: () => Promise.reject(new Error("A session for decoding alone is not loaded on demand")),
        unload: async () => {
          if (isLoaded()) await this.close();
        },
      },
    ];
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

/** Part by part, a token goes alone where rows stay apart, and twice where they go in pairs: the same for all, or not at all. */
export function soloRows(parts: readonly RowSharing[]): SoloRows | null {
  if (!parts.includes(2)) return 1;
  return parts.includes(null) ? null : 2;
}

async function soloBytes({ steps }: BlockChain, source: BlockSource): Promise<number> {
  const parts = steps.flatMap((step) => (step.kind === "part" ? [step.part] : []));
  return await segmentBytes({ parts, adapters: [parts.map(({ factors }) => factors)] }, source);
}
