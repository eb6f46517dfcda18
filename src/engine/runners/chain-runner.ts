import type { BlockChain } from "../../chain/chain.ts";
import type { Stretch } from "../../chain/stretches.ts";
import type { Executor, Needs } from "../execute/executor.ts";

/** Where chains run: it makes them ready without loading weights, and has one executor for all of them. */
export interface ChainRunner {
  /** Why it cannot run a chain; null: it can. */
  obstacle(chain: BlockChain): Promise<string | null>;

  /** Errors: blob_missing, model_invalid, device_unavailable. */
  prepare(chains: BlockChain[]): Promise<PreparedChains>;
}

export interface PreparedChains {
  /** By the chains' keys. */
  needs: Needs;
  facts(chain: BlockChain): ChainFacts;
  /** From now on its executor runs these. Between two steps. */
  commit(): Promise<Executor>;
}

/** What the scheduler must know of how a chain is run. */
export interface ChainFacts {
  speculates: boolean;
  stretches: readonly Stretch[];
  /** Caches come in capacities (kv/capacity.ts), not page by page. */
  byCapacity?: boolean;
}
