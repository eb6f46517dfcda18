import type { BlockKind } from "../../../blocks/block.ts";
import type { BlockSharing } from "../../../store/sharing.ts";
import type { EquivalentPair } from "../../../engine/evaluate/equivalent-report.ts";
import type { DifferentPair } from "../../../store/sharing-tiers.ts";
import type { Dedupe } from "../../commands/dedupe.ts";

/** How a block is kept. `possible`: measured, but the block is still stored whole. */
export const WAYS = [
  { id: "exact", name: "the same block as another model's" },
  { id: "lowrank", name: "a shared block and low-rank factors of its own" },
  { id: "equivalent", name: "another model's block in its place, within the quality budget" },
  { id: "residual", name: "its own, stored as a lossless difference" },
  { id: "tensors", name: "its own, but most of its weights are another model's, too" },
  { id: "lowrank-possible", name: "its own; could be low-rank factors over a shared block" },
  { id: "equivalent-possible", name: "its own; another model's would do within the quality budget" },
  { id: "residual-possible", name: "its own; could be kept as a lossless difference" },
  { id: "own", name: "its own" },
] as const;

export type Way = (typeof WAYS)[number]["id"];

/** A place in a chain; models of one family have the same ones. */
export interface Column {
  kind: BlockKind;
  layer: number | null;
  label: string;
}

export interface Cell {
  column: number;
  /** Attention and MLP of a layer share a square of the map; the only block of a layer has it alone. */
  half: "whole" | "upper" | "lower";
  block: BlockSharing;
  way: Way;
  /** What was measured between this block and another that could stand in for it. */
  measured: MeasuredPair | null;
}

export type MeasuredPair = DifferentPair | EquivalentPair;

export interface ReportView {
  models: { name: string; cells: Cell[] }[];
  columns: Column[];
}

/** The value of `dedupe` as the page draws it: a cell per block of each model. */
export function viewReport(value: Dedupe): ReportView {
  const columns = columnsOf(value);
  const places = new Map(columns.map(({ kind, layer }, at) => [placeOf(kind, layer), at]));
  const measured = pairsByDigest(value);
  const models = value.per_model.map(({ name, blocks }) => ({
    name,
    cells: blocks.map((block): Cell => {
      const pair = measured.get(block.digest) ?? null;
      return {
        column: places.get(placeOf(block.kind, block.layer))!,
        half: halfOf(block, blocks),
        block,
        way: wayOf(block, pair),
        measured: pair,
      };
    }),
  }));
  return { models, columns };
}

/** Models that begin alike side by side, those that begin like most others first: families show as areas of the pictures. */
export function orderAlike(value: Dedupe): Dedupe {
  const uses = new Map<string, number>();
  for (const { digest } of value.per_model.flatMap(({ blocks }) => blocks))
    uses.set(digest, (uses.get(digest) ?? 0) + 1);
  const per_model = value.per_model.toSorted((a, b) => {
    const at = a.blocks.findIndex(({ digest }, place) => digest !== b.blocks[place]?.digest);
    const [one, other] = [a.blocks[at]?.digest ?? "", b.blocks[at]?.digest ?? ""];
    return (uses.get(other) ?? 0) - (uses.get(one) ?? 0) || compareText(one, other) || compareText(a.name, b.name);
  });
  return { ...value, per_model };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A block of two models is measured once, under the first one's name. */
function pairsByDigest({ per_model, pairs }: Dedupe): Map<string, MeasuredPair> {
  const digests = new Map(
    per_model.flatMap(({ name, blocks }) =>
      blocks.map(({ kind, layer, digest }) => [`${name} ${placeOf(kind, layer)}`, digest]),
    ),
  );
  const found = new Map<string, MeasuredPair>();
  for (const pair of pairs) {
    // What was merged before is told by the blocks themselves.
    if (pair.tier === "exact" || (pair.tier === "equivalent" && !("block" in pair))) continue;
    if (pair.tier === "equivalent") {
      found.set(pair.block, pair);
      continue;
    }
    const digest = digests.get(`${pair.b} ${placeOf(pair.kind, pair.layer)}`);
    if (digest !== undefined) found.set(digest, pair);
  }
  return found;
}

/** Of a block's bytes: from here on it is called mostly shared. */
const MOSTLY = 0.5;

function wayOf(
  { shared_with, bytes, shared_tensor_bytes, residual_saved_bytes, adapter, replaces }: BlockSharing,
  pair: MeasuredPair | null,
): Way {
  if (replaces) return replaces.tier;
  if (adapter) return "lowrank";
  if (shared_with.length > 0) return "exact";
  if (residual_saved_bytes !== undefined) return "residual";
  if (pair !== null) return `${pair.tier}-possible`;
  return shared_tensor_bytes >= MOSTLY * bytes ? "tensors" : "own";
}

function halfOf({ kind, layer }: BlockSharing, blocks: BlockSharing[]): Cell["half"] {
  if (layer === null || blocks.filter((other) => other.layer === layer).length === 1) return "whole";
  return kind === "mlp" ? "lower" : "upper";
}

function columnsOf({ per_model }: Dedupe): Column[] {
  const columns = new Map<string, Column>();
  for (const { kind, layer } of per_model.flatMap(({ blocks }) => blocks)) {
    columns.set(placeOf(kind, layer), { kind, layer, label: nameBlock(kind, layer) });
  }
  return [...columns.values()].toSorted((a, b) => order(a) - order(b));
}

const KINDS: readonly BlockKind[] = ["embedding", "attention", "mlp", "head", "opaque"];

function order({ kind, layer }: Column): number {
  const last = kind === "head" || kind === "opaque" ? Number.MAX_SAFE_INTEGER / 10 - 10 : -1;
  return (layer ?? last) * 5 + KINDS.indexOf(kind);
}

const NAMES: Record<BlockKind, string> = {
  embedding: "embedding",
  attention: "attention",
  mlp: "MLP",
  head: "head",
  opaque: "whole model",
};

export function nameBlock(kind: BlockKind, layer: number | null): string {
  return layer === null ? NAMES[kind] : `${NAMES[kind]} of layer ${layer}`;
}

function placeOf(kind: BlockKind, layer: number | null): string {
  return `${kind} ${layer ?? ""}`;
}

/** A name that would not fit beside a picture; the whole one is in its title and in the table of models. */
export function shortName(name: string): string {
  return name.length > 20 ? `${name.slice(0, 12)}…${name.slice(-7)}` : name;
}
