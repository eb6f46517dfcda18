import type { BlockKind } from "../../../../src/blocks/block.ts";
import type { Dedupe } from "../../../../src/cli/commands/dedupe.ts";
import type { BlockSharing } from "../../../../src/store/sharing.ts";
import type { DifferentPair } from "../../../../src/store/sharing-tiers.ts";

export const BLOCK_BYTES = 1_000_000;

/** Models by name, each with one letter per block: equal letters at one place are one block. */
export function dedupeValue(models: Record<string, string>, more: Partial<Dedupe> = {}): Dedupe {
  const names = Object.keys(models);
  const sharers = (place: number, letter: string): string[] => names.filter((name) => models[name]![place] === letter);
  const per_model = names.map((name) => {
    const blocks = Array.from(models[name]!, (letter, place): BlockSharing => {
      const others = sharers(place, letter).filter((other) => other !== name);
      return {
        ...placeOf(place, models[name]!.length),
        digest: digestOf(`${place} ${letter}`),
        bytes: BLOCK_BYTES,
        shared_with: others,
        shared_tensor_bytes: others.length > 0 ? BLOCK_BYTES : 0,
      };
    });
    const own = blocks.filter(({ shared_with }) => shared_with.length === 0).length;
    return {
      name,
      digest: digestOf(name),
      bytes: blocks.length * BLOCK_BYTES,
      unique_bytes: own * BLOCK_BYTES,
      blocks,
    };
  });
  const distinct = new Set(per_model.flatMap(({ blocks }) => blocks.map(({ digest }) => digest))).size;
  const chained = per_model.reduce((sum, { blocks }) => sum + blocks.length, 0);
  const [logical, stored] = [chained * BLOCK_BYTES, distinct * BLOCK_BYTES];
  const none = { blocks: 0, saved_bytes: 0 };
  return {
    models: names.length,
    blocks: chained,
    logical_bytes: logical,
    stored_bytes: stored,
    kept_original_bytes: 0,
    ratio: stored === 0 ? 1 : logical / stored,
    tiers: {
      exact: { blocks: chained - distinct, saved_bytes: logical - stored },
      lowrank: none,
      residual: none,
      equivalent: none,
    },
    done: { lowrank: none, residual: none },
    pairs: [],
    too_large: [],
    first_divergence: names.flatMap((a, at) =>
      names.slice(at + 1).map((b) => {
        const place = Array.from(models[a]!).findIndex((letter, i) => letter !== models[b]![i]);
        const same = Array.from(models[a]!).filter((letter, i) => letter === models[b]![i]).length;
        const divergence = place < 0 ? { kind: null, layer: null } : placeOf(place, models[a]!.length);
        return { a, b, ...divergence, shared_bytes: same * BLOCK_BYTES };
      }),
    ),
    per_model,
    granularity: [],
    reachable_bytes: stored,
    reachable_ratio: 1,
    serving: {
      shared_bytes: stored,
      separate_bytes: logical,
      sessions: distinct,
      cuts: [],
      per_model: per_model.map(({ name, bytes }) => ({ name, bytes })),
    },
    ...more,
  };
}

/** A low-rank pair as `dedupe` measures it. */
export function lowRankPair(a: string, b: string, layer: number): DifferentPair {
  return {
    a,
    b,
    kind: "attention",
    layer,
    tier: "lowrank",
    weight_cosine: 0.9876,
    relative_delta: 0.25,
    saved_bytes: 900_000,
    rank: 8,
    residual_error: { max_abs: 1e-8, relative: 2e-7 },
    tensors: [
      {
        name: "q.weight",
        dims: [64, 64],
        weight_cosine: 0.98,
        relative_delta: 0.3,
        rank: 8,
        cliff: 1e5,
        residual_ratio: null,
      },
    ],
  };
}

/** Embedding first, head last, attention and MLP of each layer between them. */
function placeOf(place: number, blocks: number): { kind: BlockKind; layer: number | null } {
  if (place === 0) return { kind: "embedding", layer: null };
  if (place === blocks - 1) return { kind: "head", layer: null };
  return { kind: place % 2 === 1 ? "attention" : "mlp", layer: Math.floor((place - 1) / 2) };
}

function digestOf(text: string): `sha256:${string}` {
  return `sha256:${Buffer.from(text).toString("hex").padEnd(64, "0").slice(0, 64)}`;
}
