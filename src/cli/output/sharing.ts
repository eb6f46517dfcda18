import type { BlockSharing, ModelSharing, SharingReport } from "../../store/sharing.ts";
import type { Divergence } from "../../store/sharing-pairs.ts";
import { formatBytes, formatCount, formatNumber, formatPercent, shortDigest } from "./format.ts";
import { renderTable } from "./table.ts";

/** Models in the rows, layers in the columns: where two models' blocks are equal, they show the same letter. */
export function printSharing(report: Omit<SharingReport, "pairs" | "tiers">): string {
  if (report.models === 0) return "no models yet: `blockllm split <folder>` adds one";
  const { logical_bytes, stored_bytes, kept_original_bytes } = report;
  const saved = logical_bytes - stored_bytes;
  const distinct = new Set(report.per_model.flatMap(({ blocks }) => blocks.map(({ digest }) => digest)));
  const share = formatPercent(Math.abs(saved) / Math.max(1, logical_bytes));
  return [
    printModels(report),
    "",
    printMap(report.per_model),
    "",
    `${formatCount(report.models, "model")}, ${formatCount(report.blocks, "block")}, ${report.blocks - distinct.size} of them shared`,
    `${formatBytes(stored_bytes)} stored for ${formatBytes(logical_bytes)} of models: ` +
      `${formatBytes(Math.abs(saved))} ${saved < 0 ? "more than apart" : "saved"} (${share}), ratio ${report.ratio.toFixed(2)}`,
    ...(kept_original_bytes === 0
      ? []
      : [`${formatBytes(kept_original_bytes)} of it are there only so that merges can be undone`]),
  ].join("\n");
}

/** One model's blocks with their digests and who else has them. */
export function printBlocks(blocks: BlockSharing[]): string {
  return renderTable(
    [{ head: "block" }, { head: "digest" }, { head: "size", align: "right" }, { head: "shared with" }],
    blocks.map((block) => [nameOf(block), shortDigest(block.digest), sizeOf(block), sharingOf(block)]),
  );
}

/** What runs in the place of what, and the evidence; nothing where no block was merged. */
export function printMerges(blocks: BlockSharing[]): string[] {
  const merged = blocks.flatMap((block) => (block.replaces ? [{ block, replaces: block.replaces }] : []));
  if (merged.length === 0) return [];
  const table = renderTable(
    [
      { head: "block" },
      { head: "tier" },
      { head: "runs" },
      { head: "replaces" },
      { head: "original" },
      { head: "evidence" },
    ],
    merged.map(({ block, replaces }) => [
      nameOf(block),
      replaces.tier === "lowrank" ? "low rank" : replaces.tier,
      shortDigest(block.digest),
      shortDigest(replaces.digest),
      replaces.kept ? "kept" : "not kept",
      Object.entries(replaces.evidence)
        .map(([name, value]) => `${name} ${typeof value === "number" ? formatNumber(value) : value}`)
        .join(", "),
    ]),
  );
  return [table];
}

/** What is kept for an undo is nobody's share of what is run. */
function printModels({ per_model, first_divergence }: Pick<SharingReport, "per_model" | "first_divergence">): string {
  const nearest = nearestOf(first_divergence);
  const isKept = per_model.some(({ kept_original_bytes }) => kept_original_bytes !== undefined);
  return renderTable(
    [
      { head: "model" },
      { head: "size", align: "right" },
      { head: "its own", align: "right" },
      { head: "shared", align: "right" },
      ...(isKept ? [{ head: "to undo", align: "right" as const }] : []),
      { head: "blocks shared", align: "right" },
      { head: "parts from the nearest at" },
    ],
    per_model.map(({ name, bytes, unique_bytes, kept_original_bytes: kept = 0, blocks }) => [
      name,
      formatBytes(bytes),
      formatBytes(unique_bytes - kept),
      formatPercent(Math.max(0, 1 - (unique_bytes - kept) / Math.max(1, bytes))),
      ...(isKept ? [formatBytes(kept)] : []),
      `${blocks.filter(({ shared_with }) => shared_with.length > 0).length} of ${blocks.length}`,
      describeParting(name, nearest.get(name)),
    ]),
  );
}

/** By model, the other one with which it has most bytes in common. */
function nearestOf(divergences: Divergence[]): Map<string, Divergence> {
  const nearest = new Map<string, Divergence>();
  for (const each of divergences) {
    for (const name of [each.a, each.b])
      if (each.shared_bytes > (nearest.get(name)?.shared_bytes ?? -1)) nearest.set(name, each);
  }
  return nearest;
}

/** "base: attention 4": the nearest, and the first block in which they differ. */
function describeParting(name: string, nearest: Divergence | undefined): string {
  if (nearest === undefined) return "";
  const { a, b, kind, layer } = nearest;
  return `${a === name ? b : a}: ${kind === null ? "nowhere" : layer === null ? kind : `${kind} ${layer}`}`;
}

const OWN = ".";

/**
 * A row per model, a letter per block in the order of the chain. The same letter in two rows of a column is the same
 * block; a dot is a block that only this model has. Each model that brings a shared block gets the next letter.
 */
function printMap(models: ModelSharing[]): string {
  const letters = new Map<string, string>();
  const rows = models.map(({ name, blocks }) => {
    const next = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[new Set(letters.values()).size] ?? "*";
    const row = blocks.map(({ digest, shared_with }) => {
      if (shared_with.length === 0) return OWN;
      if (!letters.has(digest)) letters.set(digest, next);
      return letters.get(digest)!;
    });
    return [name, row.join("")];
  });
  return renderTable(
    [{ head: "model" }, { head: `blocks in order; same letter: same block; "${OWN}": its own` }],
    rows,
  );
}

function nameOf({ kind, layer }: BlockSharing): string {
  return layer === null ? kind : `${kind} ${layer}`;
}

function sizeOf({ bytes, adapter }: BlockSharing): string {
  return adapter === undefined ? formatBytes(bytes) : `${formatBytes(bytes)} + adapter ${formatBytes(adapter.bytes)}`;
}

function sharingOf({ shared_with, shared_tensor_bytes }: BlockSharing): string {
  if (shared_with.length > 0) return shared_with.join(", ");
  return shared_tensor_bytes === 0 ? "" : `${formatBytes(shared_tensor_bytes)} of its tensors`;
}
