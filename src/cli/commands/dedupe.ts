import { chooseGranularity, type LayerGranularity } from "../../chain/granularity.ts";
import type { ServingBytes } from "../../chain/serving-bytes.ts";
import { openRepository } from "../../store/open-repository.ts";
import { swapBlocks } from "../../engine/evaluate/swapped-chain.ts";
import type { EquivalentPair, EquivalentReport } from "../../engine/evaluate/equivalent-report.ts";
import { reportTiers, type TieredReport } from "../../store/sharing-tiers.ts";
import type { Tier } from "../../store/sharing.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import {
  type ChangeOptions,
  changeSharing,
  servingOf,
  type SharingChange,
  type SoughtTier,
} from "../change-sharing.ts";
import { type Gate, gateVerdict, judgeGate } from "../dedupe-gate.ts";
import {
  EQUIVALENT_OPTIONS,
  type EquivalentOptions,
  type EquivalentTier,
  searchEquivalent,
} from "../equivalent-tier.ts";
import { renderReport } from "../output/html/report.ts";
import { printApplied, printUndone } from "../output/applied.ts";
import { printEquivalent } from "../output/equivalent.ts";
import { printGranularity } from "../output/granularity.ts";
import { printSharing } from "../output/sharing.ts";
import { printTiers } from "../output/tiers.ts";
import { commaSeparated, realNumber } from "../parse-values.ts";
import { checkReportPath, writeReport } from "../write-report.ts";

interface DedupeOptions extends ChangeOptions, EquivalentOptions {
  failUnder?: number;
  tiers?: SoughtTier[];
  report?: string;
}

/** The keys are the stable JSON of `dedupe`. */
export interface Dedupe extends Omit<TieredReport, "pairs" | "tiers">, SharingChange {
  tiers: TieredReport["tiers"] & { equivalent: Tier & { unavailable?: string } };
  pairs: (TieredReport["pairs"][number] | EquivalentPair)[];
  /** What was measured about blocks that behave alike; absent where nobody asked. */
  equivalent?: EquivalentReport;
  serving: ServingBytes;
  granularity: LayerGranularity[];
  gate?: Gate;
}

const SOUGHT_TIERS: readonly SoughtTier[] = ["lowrank", "residual", "equivalent"];

export const dedupeCommand = defineCommand<DedupeOptions, Dedupe>({
  usage: "dedupe [model...]",
  summary: "what the models share, block by block, and what differences to a base would save",
  options: [
    {
      flags: "--tiers <tiers>",
      help: "what to look for: exact, lowrank, residual, equivalent (default: all; equivalent needs --calibration)",
      parse: parseTiers,
    },
    {
      flags: "--apply",
      help: "keep blocks so: residuals without loss; low rank where --tiers names it, since it is not exact; equivalent within a budget",
    },
    { flags: "--keep-originals", help: "keep what merges replace, so that they can be undone (default)" },
    { flags: "--no-keep-originals", help: "give it up: less disk, no way back" },
    { flags: "--undo", help: "take merges back whose originals are kept, in the named models or all" },
    { flags: "--exact-only", help: "undo merges of the named models and allow none that changes numbers" },
    { flags: "--no-exact-only", help: "allow them again" },
    {
      flags: "--fail-under <ratio>",
      help: "exit with 3 when logical bytes / stored bytes is less",
      parse: realNumber("--fail-under", 1, 1000),
    },
    ...EQUIVALENT_OPTIONS,
    { flags: "--report <file>", help: "write a page for people: one HTML file that needs nothing else" },
  ],
  examples: [
    "blockllm dedupe",
    "blockllm dedupe support legal hr --fail-under 1.5",
    "blockllm dedupe base support --tiers exact,lowrank",
    "blockllm dedupe --report sharing.html",
    "blockllm dedupe --apply --tiers lowrank,residual",
    "blockllm dedupe --calibration prompts.jsonl --max-kl 0.02 --apply",
    "blockllm dedupe --undo support",
  ],
  async run({ repositoryPath, signal, progress }, names, { report: page, tiers, ...options }) {
    if (page !== undefined) await checkReportPath(page);
    const repository = await openRepository(repositoryPath);
    const chosen = names.length === 0 ? undefined : names;
    const named = tiers?.includes("equivalent") ? "named" : "no";
    // `--undo --tiers equivalent` looks for nothing.
    const wanted = options.undo ? "no" : tiers === undefined ? "default" : named;
    const equivalent = searchEquivalent(repository, chosen, { ...options, wanted, signal, progress });
    const change = await changeSharing(repository, names, {
      ...options,
      ...(tiers && { tiers }),
      equivalent,
      signal,
      progress,
    });
    // What was applied has just been looked for, and after an undo nobody asks for it.
    const isChanged = Object.keys(change).length > 0;
    const found = isChanged && !change.applied ? { findings: null } : await equivalent.find();
    const sought = isChanged ? [] : (tiers ?? SOUGHT_TIERS).filter((tier) => tier !== "equivalent");
    if (sought.length > 0) progress.start("comparing blocks");
    const merges = isChanged ? [] : (found.findings?.merges ?? []);
    const report = await reportTiers(repository, chosen, {
      tiers: sought,
      signal,
      asMerged: (model) => ({
        ...model,
        document: { ...model.document, chain: swapBlocks(model.document.chain, merges) },
      }),
      onProgress: ({ blocks, totalBlocks }) => progress.update(`sketched block ${blocks} of ${totalBlocks}`),
      onCompare: ({ blocks, totalBlocks }) => progress.update(`comparing block ${blocks + 1} of ${totalBlocks}`),
    });
    if (sought.length > 0) progress.succeed(`compared ${report.blocks} blocks`);
    const serving = await servingOf(repository, report);
    const granularity = chooseGranularity(report.per_model, serving.cuts);
    const value: Dedupe = { ...withEquivalent(report, found, change), ...change, serving, granularity };
    const gate = judgeGate(value, options);
    if (gate !== null) value.gate = gate;
    if (page !== undefined) {
      await writeReport(page, renderReport(value, { madeAt: new Date() }));
      progress.succeed(`wrote ${page}`);
    }
    return value;
  },
  print: (report) =>
    [
      printSharing(report),
      ...printGranularity(report),
      ...printTiers(report),
      ...printEquivalent(report),
      ...printChange(report),
    ].join("\n"),
  verdict: gateVerdict,
});

/** What is possible counts beside what is done; what was just applied is in the report already. */
function withEquivalent(
  report: TieredReport,
  found: EquivalentTier,
  { applied }: SharingChange,
): Omit<Dedupe, "serving" | "granularity"> {
  const { equivalent: done } = report.tiers;
  if (found.findings === null) {
    const { unavailable } = found;
    const equivalent = unavailable === undefined ? done : { ...done, unavailable };
    return { ...report, tiers: { ...report.tiers, equivalent } };
  }
  const { report: equivalent } = found.findings;
  if (applied) return { ...report, equivalent };
  const { blocks, saved_bytes } = equivalent.tier;
  const reachable = report.reachable_bytes - saved_bytes;
  return {
    ...report,
    tiers: {
      ...report.tiers,
      equivalent: { blocks: done.blocks + blocks, saved_bytes: done.saved_bytes + saved_bytes },
    },
    pairs: [...report.pairs, ...equivalent.pairs],
    equivalent,
    reachable_bytes: reachable,
    reachable_ratio: reachable === 0 ? 1 : report.logical_bytes / reachable,
  };
}

function printChange({ applied, undone, exact_only }: SharingChange): string[] {
  if (applied) return ["", printApplied(applied)];
  if (undone) return ["", printUndone(undone)];
  if (!exact_only) return [];
  return [
    "",
    `${exact_only.models.join(", ")}: ${exact_only.marked ? "exact only from now on" : "merges are allowed"}`,
  ];
}

/** Equal blocks are always counted: naming `exact` alone leaves the others out. */
function parseTiers(text: string): SoughtTier[] {
  const names = commaSeparated(text);
  const unknown = names.find((name) => name !== "exact" && !SOUGHT_TIERS.some((tier) => tier === name));
  if (unknown !== undefined || names.length === 0) {
    throw new BlockllmError("usage", `--tiers is "${text}"; it must name some of exact, lowrank, residual, equivalent`);
  }
  return SOUGHT_TIERS.filter((tier) => names.includes(tier));
}
