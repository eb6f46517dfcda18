import type { AppliedTiers } from "../../store/apply-tiers.ts";
import type { Undone } from "../../store/undo-merges.ts";
import { formatBytes, formatCount } from "./format.ts";
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

export function printApplied({
  lowrank,
  equivalent,
  models,
  exact_only,
  originals,
  before,
  after,
}: AppliedReport): string {
  const facts: [string, string][] = [
    [
      "low rank",
      `${formatCount(lowrank.blocks, "block")} run as their base and factors (not exact: see the errors in show --blocks)`,
    ],
    ...(equivalent.blocks === 0
      ? []
      : [
          [
            "equivalent",
            `${formatCount(equivalent.blocks, "block")} gave way to others that behave alike, as measured above`,
          ] as [string, string],
        ]),
    ["models changed", models.length === 0 ? "none" : models.join(", ")],
    ...(exact_only.length === 0
      ? []
      : [["exact only", `${exact_only.join(", ")}: left as they are`] as [string, string]]),
    [
      "originals",
      originals === "kept" ? "kept: `blockllm dedupe --undo` goes back" : "not kept: `blockllm gc` frees them",
    ],
    ["on disk", change(before.stored_bytes, after.stored_bytes)],
    ["weights in memory", change(before.memory_bytes, after.memory_bytes)],
  ];
  return renderFacts(facts);
}

export function printUndone({ models }: Undone): string {
  if (models.length === 0) return "nothing is merged";
  return models
    .map(({ name, restored, not_kept }) => {
      const left =
        not_kept === 0 ? "" : `; ${formatCount(not_kept, "block")} cannot go back: the originals were not kept`;
      return `${name}: ${formatCount(restored, "block")} as split again${left}`;
    })
    .join("\n");
}

function change(before: number, after: number): string {
  return `${formatBytes(before)} before, ${formatBytes(after)} after`;
}
