import type { Chain } from "./chain.ts";
import { planChains } from "./plan.ts";
import { refineChains, type Refinement } from "./refine-chains.ts";
import type { BlockSource } from "./resolve-chain.ts";

/** Memory for weights, as `serve` loads them. */
export interface ServingBytes {
  /** All models from one process: every segment has a runtime session, which packs the weights for itself. */
  shared_bytes: number;
  /** A process of its own for every model. */
  separate_bytes: number;
  /** Runtime sessions of the shared process: each is one call per step of those that go through it. */
  sessions: number;
  /** Parts that are cut finer than they are stored. */
  cuts: Refinement[];
  per_model: { name: string; bytes: number }[];
}

/** What serving these models together and apart takes. Keys and values of sequences come on top of both. */
export async function servingBytes(chains: Chain[], source: BlockSource): Promise<ServingBytes> {
  const blockChains = chains.filter((chain) => chain.kind === "blocks");
  const { chains: refined, refinements } = await refineChains(blockChains, source);
  const together = planChains(refined);
  const opaque = chains.filter((chain) => chain.kind === "opaque");
  const per_model = chains.map((chain) => ({ name: chain.name, bytes: chainBytes(chain) }));
  return {
    shared_bytes: sum(together.segments) + sum(opaque.map((chain) => ({ bytes: chainBytes(chain) }))),
    separate_bytes: sum(per_model),
    sessions: together.segments.length + opaque.length,
    cuts: refinements,
    per_model,
  };
}

/** Of the model by itself as it was split: what merges put in the place of its blocks is of use among others only. */
function chainBytes(chain: Chain): number {
  if (chain.kind === "opaque") return sum(chain.document.chain);
  const merged = chain.document.chain.flatMap(({ bytes, adapter, replaces }) =>
    replaces ? [{ bytes: replaces.bytes + (replaces.adapter?.bytes ?? 0) - bytes - (adapter?.bytes ?? 0) }] : [],
  );
  return sum(planChains([chain]).segments) + sum(merged);
}

function sum(parts: readonly { bytes: number }[]): number {
  return parts.reduce((total, { bytes }) => total + bytes, 0);
}
