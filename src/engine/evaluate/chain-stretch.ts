import type { BlockChain, ChainStep } from "../../chain/chain.ts";
import { type BlockSource, resolveChain } from "../../chain/resolve-chain.ts";
import type { ModelDocument } from "../../store/model-document.ts";
import { recordedPart } from "./part-sessions.ts";

/** A chain that knows which of its steps belong to which block. */
export interface BlockedChain {
  chain: BlockChain;
  /** The steps of block k: [starts[k], starts[k + 1]). */
  starts: number[];
}

/** A model's document, as stored or with other blocks in it, made runnable. Errors: as resolveChain. */
export async function resolveBlocks(
  source: BlockSource,
  { name, document }: { name: string; document: ModelDocument },
): Promise<BlockedChain> {
  const reading: BlockSource = {
    readModel: async () => await Promise.resolve({ name, document }),
    readBlock: async (digest) => await source.readBlock(digest),
    readAdapter: async (digest) => await source.readAdapter(digest),
    blobs: source.blobs,
  };
  const chain = await resolveChain(reading, name);
  if (chain.kind !== "blocks") throw new Error(`${name} is opaque: it has no blocks to look between`);
  const starts = [0];
  for (const { digest } of document.chain) {
    const { parts, core } = await source.readBlock(digest);
    starts.push(starts.at(-1)! + parts.length + (core ? 1 : 0));
  }
  return { chain, starts };
}

/** Blocks [from, to) as a chain of their own. From any block but the first it is fed with recorded rows. */
export function stretchOf({ chain, starts }: BlockedChain, { from, to }: { from: number; to: number }): BlockChain {
  const taken = chain.steps.slice(starts[from], starts[to]);
  const front: ChainStep[] =
    from === 0 ? [] : [{ kind: "part", part: recordedPart(widthBefore(chain, starts[from]!)) }];
  let layer = 0;
  const steps = [...front, ...taken].map((step) => (step.kind === "core" ? { ...step, layer: layer++ } : step));
  return { ...chain, steps, cores: steps.flatMap((step) => (step.kind === "core" ? [step.core] : [])) };
}

/** How many parts the first `blocks` blocks from block `from` on have. */
export function partsBefore({ chain, starts }: BlockedChain, from: number, blocks: number): number {
  return chain.steps.slice(starts[from], starts[from + blocks]).filter(({ kind }) => kind === "part").length;
}

/** A chain can be entered before block `at` if nothing from there on asks for more than the hidden rows. */
export function canBeEntered({ chain, starts }: BlockedChain, at: number): boolean {
  const rest = chain.steps.slice(starts[at]);
  return rest.every((step) => step.kind === "core" || step.part.inputs.every(({ name }) => name !== "ids"));
}

function widthBefore({ steps }: BlockChain, at: number): number {
  const before = steps[at - 1];
  const port = before?.kind === "part" ? before.part.outputs.find(({ name }) => name === "hidden_out") : undefined;
  if (!port) throw new Error("No hidden rows come out of the block before");
  return port.width;
}
