import type { AppliedTiers } from "../../store/apply-tiers.ts";
import type { Undone } from "../../store/undo-merges.ts";
import { formatBytes, formatCount, formatNumber } from "./format.ts";
import { renderFacts } from "./table.ts";

/** Bytes before and after a change of the repository. */
export interface BeforeAfter {
  /** On disk, once `gc` has run. */
  stored_bytes: number;
  /** Weights, as `serve` loads all models of the report together. */
  memory_bytes: number;
}

export interface AppliedReport extends AppliedTiers {
  /** Blocks that gave way to others that behave alike. */
  equivalent: { blocks: number };
  before: BeforeAfter;
  after: BeforeAfter;
}

export interface UndoneReport extends Undone {
  /** Models whose tensors are no residuals any more. */
  whole_again?: string[];
}

export function printApplied(applied: AppliedReport): string {
  const { lowrank, residual, equivalent, models, exact_only, originals, before, after } = applied;
  const facts: [string, string][] = [];
  if (lowrank.blocks > 0)
    facts.push(
      [
        "low rank",
        `${formatCount(lowrank.blocks, "block")} run as their base and factors: equal to rounding, not exact; relative error up to ${formatNumber(lowrank.largest_relative_error ?? 0)}`,
      ],
      ["evidence", "`blockllm show <model> --blocks` has rank and error of each"],
    );
  if (equivalent.blocks > 0)
    facts.push([
      "equivalent",
      `${formatCount(equivalent.blocks, "block")} gave way to others that behave alike, as measured above`,
    ]);
  if (lowrank.blocks + equivalent.blocks > 0)
    facts.push([
      "originals",
      originals === "kept" ? "kept: `blockllm dedupe --undo` goes back" : "not kept: `gc` frees them",
    ]);
  if (residual.tensors > 0) facts.push(["residual", `${formatCount(residual.tensors, "tensor")}, without loss`]);
  if (residual.unavailable !== undefined) facts.push(["residual", `none: ${residual.unavailable}`]);
  facts.push(["models changed", models.length === 0 ? "none" : models.join(", ")]);
  if (exact_only.length > 0) facts.push(["exact only", `${exact_only.join(", ")}: no number was changed`]);
  facts.push(
    ["on disk after `gc`", change(before.stored_bytes, after.stored_bytes)],
    ["weights in memory", change(before.memory_bytes, after.memory_bytes)],
  );
  return renderFacts(facts);
}

export function printUndone({ models, whole_again }: UndoneReport): string {
  const lines = models.map(({ name, restored, not_kept }) => {
    const left =
      not_kept === 0 ? "" : `; ${formatCount(not_kept, "block")} cannot go back: the originals were not kept`;
    return `${name}: ${formatCount(restored, "block")} as split again${left}`;
  });
  if (whole_again !== undefined) lines.push(`whole tensors again: ${whole_again.join(", ") || "none"}`);
  return lines.length === 0 ? "nothing is merged" : lines.join("\n");
}

function change(before: number, after: number): string {
  return `${formatBytes(before)} before, ${formatBytes(after)} after`;
}
