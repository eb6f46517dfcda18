import type { BlockKind, Digest } from "../../blocks/block.ts";
import type { AnswerAccuracy } from "./answer-accuracy.ts";
import type { LeftOutModel } from "./choose-models.ts";
import type { Drift, DriftBudget } from "./drift.ts";

/** What the equivalent tier found: the keys are stable JSON. Nothing is rewritten. */
export interface EquivalentReport {
  calibration: { digest: Digest; lines: number };
  budget: DriftBudget & { threshold: number };
  /** Couples of interchangeable blocks whose outputs were compared. */
  compared: number;
  /** Of them, those at or above the threshold that were run through the rest of the models. */
  measured: number;
  /** Chosen within the budget and confirmed on held-out prompts. Empty without a budget. */
  pairs: EquivalentPair[];
  /** Measured and not merged: the first few, those with the least drift first. */
  refused: RefusedPair[];
  /** Every model that was asked. */
  models: ModelDrift[];
  left_out: LeftOutModel[];
  /** Blocks that run another one's weights, and what all models together need less than without. */
  tier: { blocks: number; saved_bytes: number };
}

/** `b`'s block, in every model that has it, gives way to `a`'s. */
export interface EquivalentPair {
  a: string;
  b: string;
  kind: BlockKind;
  layer: number | null;
  tier: "equivalent";
  block: Digest;
  by: Digest;
  weight_cosine: number;
  relative_delta: number;
  saved_bytes: number;
  /** Mean cosine of both blocks' outputs for the same rows; in the model where it is least. */
  output_cosine: number;
  /** Of this merge alone, on held-out prompts, in the model where it drifts most. */
  kl: number;
  top1: number;
  models: string[];
}

/** Why a couple that was measured was not merged. */
export type Refusal =
  | "no budget"
  | "alone beyond the budget"
  | "beyond the budget together"
  | "beyond the budget on held-out prompts"
  | "nothing left to save";

/** Its `kl` and `top1` are those of the choosing prompts, up to where the budget was used up. */
export interface RefusedPair extends EquivalentPair {
  reason: Refusal;
}

/** One model with all its merges together against itself as it was split. */
export interface ModelDrift {
  model: string;
  /** Lines of the calibration that ask it what another one asks: they were left out. */
  repeated_prompts: number;
  merged_blocks: number;
  /** On the prompts that merges were chosen by: flatters. */
  choosing: Drift;
  /** On prompts that had no part in choosing. */
  held_out: Drift;
  /** On held-out prompts; null where the calibration has no answers. */
  accuracy: AnswerAccuracy | null;
}
