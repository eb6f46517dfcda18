import type { BlockSharing, ModelSharing, SharingReport, Tier } from "../../store/sharing.ts";
import type { Divergence } from "../../store/sharing-pairs.ts";
import { formatBytes, formatCount, formatNumber, formatPercent, shortDigest } from "./format.ts";
import { renderTable } from "./table.ts";

/** Models in the rows, layers in the columns: where two models' blocks are equal, they show the same letter. */
export function printSharing(report: Omit<SharingReport, "pairs" | "tiers"> & { tiers: { exact: Tier } }): string {
  if (report.models === 0) return "no models yet: `blockllm split <folder>` adds one";
  const saved = report.logical_bytes - report.stored_bytes;
  return [
    printModels(report),
    "",
    printMap(report.per_model),
    "",
    `${formatCount(report.models, "model")}, ${formatCount(report.blocks, "block")}, ${report.tiers.exact.blocks} of them shared`,
    `${formatBytes(report.stored_bytes)} stored for ${formatBytes(report.logical_bytes)} of models: ` +
      `${formatBytes(saved)} saved (${formatPercent(saved / Math.max(1, report.logical_bytes))}), ratio ${report.ratio.toFixed(2)}`,
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

function printModels({ per_model, first_divergence }: Pick<SharingReport, "per_model" | "first_divergence">): string {
  return renderTable(
    [
      { head: "model" },
      { head: "size", align: "right" },
      { head: "its own", align: "right" },
      { head: "shared", align: "right" },
      { head: "blocks shared", align: "right" },
      { head: "parts from the nearest at" },
    ],
    per_model.map(({ name, bytes, unique_bytes, blocks }) => [
      name,
      formatBytes(bytes),
      formatBytes(unique_bytes),
      formatPercent(Math.max(0, 1 - unique_bytes / Math.max(1, bytes))),
      `${blocks.filter(({ shared_with }) => shared_with.length > 0).length} of ${blocks.length}`,
      describeParting(name, first_divergence),
    ]),
  );
}

/** "base: attention 4": the model with which it has most bytes in common, and the first block in which they differ. */
function describeParting(name: string, divergences: Divergence[]): string {
  const own = divergences.filter(({ a, b }) => a === name || b === name);
  if (own.length === 0) return "";
  const { a, b, kind, layer } = own.reduce((best, each) => (each.shared_bytes > best.shared_bytes ? each : best));
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
