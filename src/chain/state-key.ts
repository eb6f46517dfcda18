import type { Digest } from "../blocks/block.ts";
import { digestDocument } from "../fingerprint/digest.ts";
import type { BlockChain, ChainPart } from "./chain.ts";

/**
 * Equal keys: equal tokens give equal cached keys and values. Everything up to the last core decides them, in order: part
 * graphs (whose digests cover their weights), adapters, rotary angles and cores.
 */
export function stateKey({ steps }: BlockChain): Digest {
  const last = steps.findLastIndex(({ kind }) => kind === "core");
  const deciding = steps.slice(0, last + 1).map((step) => (step.kind === "core" ? step.core : deciders(step.part)));
  return digestDocument(deciding);
}

function deciders({ graph, rotary, factors }: ChainPart): object {
  return factors.length === 0 ? { graph, rotary } : { graph, rotary, factors };
}
