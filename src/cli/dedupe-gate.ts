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
  /** Models that were merged and gave their originals up: nobody knows whether they are within. Absent: none. */
  unmeasured?: string[];
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
  const hasBudget = max_kl !== undefined || min_top1 !== undefined;
  const lost = (equivalent?.left_out ?? []).filter((one) => hasBudget && one.without_originals !== undefined);
  const unmeasured = lost.map(({ model }) => model);
  return {
    passed: !(ratio < (fail_under ?? 0)) && beyond.length === 0 && unmeasured.length === 0,
    ...(fail_under === undefined ? {} : { fail_under }),
    ...(max_kl === undefined ? {} : { max_kl }),
    ...(min_top1 === undefined ? {} : { min_top1 }),
    ...(equivalent === undefined ? {} : { beyond_budget: beyond.map(({ model }) => model) }),
    ...(unmeasured.length === 0 ? {} : { unmeasured }),
  };
}

export function gateVerdict({ gate, ratio }: { gate?: Gate; ratio: number }): BlockllmError | null {
  if (gate === undefined || gate.passed) return null;
  const [beyond, unmeasured] = [gate.beyond_budget ?? [], gate.unmeasured ?? []];
  const reasons = [
    ...(ratio < (gate.fail_under ?? 0)
      ? [`the ratio is ${ratio.toFixed(2)}, --fail-under asks for ${gate.fail_under}`]
      : []),
    ...(beyond.length > 0 ? [`${beyond.join(", ")} drifted beyond the budget by merges that were applied before`] : []),
    ...(unmeasured.length > 0
      ? [`what merges of ${unmeasured.join(", ")} cost cannot be measured: originals were not kept`]
      : []),
  ];
  const hints = [
    ...(beyond.length > 0 ? [`blockllm dedupe --undo ${beyond.join(" ")}`] : []),
    ...(unmeasured.length > 0 ? [`split ${unmeasured.join(", ")} again to have the originals back`] : []),
  ];
  return new BlockllmError("gate_not_met", reasons.join("; "), hints.length > 0 ? { hint: hints.join("; ") } : {});
}
