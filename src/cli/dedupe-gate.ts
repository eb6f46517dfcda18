import type { EquivalentReport } from "../engine/evaluate/equivalent-report.ts";
import { isWithin } from "../engine/evaluate/drift.ts";
import { BlockllmError } from "../support/errors.ts";

/** Limits that a user set, as `dedupe --json` has them. */
export interface Gate {
  passed: boolean;
  fail_under?: number;
  max_kl?: number;
  min_top1?: number;
  /** Models that drift from themselves as split by more than that, with all their merges. */
  beyond_budget?: string[];
}

export interface GateOptions {
  failUnder?: number;
  maxKl?: number;
  minTop1?: number;
}

/** null where no limit was set. */
export function judgeGate(
  { ratio, equivalent }: { ratio: number; equivalent?: EquivalentReport },
  { failUnder: fail_under, maxKl: max_kl, minTop1: min_top1 }: GateOptions,
): Gate | null {
  if (fail_under === undefined && max_kl === undefined && min_top1 === undefined) return null;
  const beyond = (equivalent?.models ?? []).filter(({ held_out }) => !isWithin(held_out, { max_kl, min_top1 }));
  return {
    passed: !(ratio < (fail_under ?? 0)) && beyond.length === 0,
    ...(fail_under === undefined ? {} : { fail_under }),
    ...(max_kl === undefined ? {} : { max_kl }),
    ...(min_top1 === undefined ? {} : { min_top1 }),
    ...(equivalent === undefined ? {} : { beyond_budget: beyond.map(({ model }) => model) }),
  };
}

export function gateVerdict({ gate, ratio }: { gate?: Gate; ratio: number }): BlockllmError | null {
  if (gate === undefined || gate.passed) return null;
  const beyond = gate.beyond_budget ?? [];
  const reasons = [
    ...(ratio < (gate.fail_under ?? 0)
      ? [`the ratio is ${ratio.toFixed(2)}, --fail-under asks for ${gate.fail_under}`]
      : []),
    ...(beyond.length > 0 ? [`${beyond.join(", ")} drifted beyond the budget by merges that were applied before`] : []),
  ];
  const undo = beyond.length > 0 ? { hint: `blockllm dedupe --undo ${beyond.join(" ")}` } : {};
  return new BlockllmError("gate_not_met", reasons.join("; "), undo);
}
