import type { MergedDrift } from "../../engine/evaluate/drift-from-split.ts";
import type { Verification } from "../../engine/verify-model.ts";
import type { Verified } from "../commands/verify.ts";
import { formatCount, formatNumber, formatPercent } from "./format.ts";
import { renderFacts } from "./table.ts";

export function printVerification(verification: Verified): string {
  const { drift, gate } = verification;
  return renderFacts([
    ["model", verification.model],
    ["device", describeDevice(verification)],
    ["against", verification.against],
    ["largest logit difference", describeDifference(verification)],
    ["KL divergence", `${formatNumber(verification.kl)} nats`],
    ["same likeliest token", `${formatPercent(verification.top1)} of ${verification.tokens} positions`],
    ["greedy tokens", describeGreedy(verification)],
    ["blobs hashed", verification.blobs_checked],
    ["verdict", verification.passed ? "passed" : "NOT PASSED"],
    ...(drift === null ? [] : describeDrift(drift)),
    ...(gate === undefined ? [] : [["budget", gate.passed ? "kept" : "NOT KEPT"] satisfies [string, string]]),
  ]);
}

function describeDevice({ device, device_reason }: Verification): string {
  return device_reason === "asked for" ? device : `${device} (${device_reason})`;
}

function describeGreedy({ greedy_equal, greedy_tied, own_logit_diff }: Verification): string {
  if (greedy_equal) return "the same";
  if (!greedy_tied) return "different";
  const own = formatNumber(own_logit_diff!);
  return `different where the whole model is undecided: fed token by token, its logits differ by up to ${own}`;
}

function describeDifference({ max_abs_logit_diff, limit }: Verification): string {
  const allowed =
    limit.max_abs_logit_diff === null ? "not limited at this precision" : `limit ${limit.max_abs_logit_diff}`;
  return `${formatNumber(max_abs_logit_diff)} (${allowed})`;
}

/** The model against itself as it was split. */
function describeDrift(drift: MergedDrift): [string, string][] {
  const { merged_blocks, without_originals, accuracy } = drift;
  const lost = without_originals === 0 ? "" : `, ${without_originals} of them without their original: not measured`;
  const merged: [string, string] = ["merged", `${formatCount(merged_blocks, "block")}${lost}`];
  if (without_originals === merged_blocks) return [merged];
  return [
    merged,
    [
      "drift from the model as split",
      `KL ${formatNumber(drift.kl)} nats, ${formatNumber(drift.kl_answers)} in answers, at most ${formatNumber(drift.kl_worst)}`,
    ],
    [
      "same likeliest token as split",
      `${formatPercent(drift.top1)} of ${drift.tokens} positions, ${formatPercent(drift.top1_answers)} in answers`,
    ],
    ...(accuracy === null
      ? []
      : [
          [
            "right answers",
            `${formatPercent(accuracy.before)} as split, ${formatPercent(accuracy.after)} now, of ${accuracy.asked}`,
          ] satisfies [string, string],
        ]),
  ];
}
