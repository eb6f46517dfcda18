import type { ServingBytes } from "../../chain/serving-bytes.ts";
import { openRepository } from "../../store/open-repository.ts";
import type { DifferenceTier } from "../../store/find-differences.ts";
import { reportTiers, type TieredReport } from "../../store/sharing-tiers.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { type ChangeOptions, changeSharing, servingOf, type SharingChange } from "../change-sharing.ts";
import { renderReport } from "../output/html/report.ts";
import { printApplied, printUndone } from "../output/applied.ts";
import { printSharing } from "../output/sharing.ts";
import { printTiers } from "../output/tiers.ts";
import { commaSeparated, realNumber } from "../parse-values.ts";
import { checkReportPath, writeReport } from "../write-report.ts";

interface DedupeOptions extends Omit<ChangeOptions, "tiers"> {
  failUnder?: number;
  tiers?: DifferenceTier[];
  report?: string;
}

export interface Dedupe extends TieredReport, SharingChange {
  serving: ServingBytes;
  gate?: { passed: boolean; fail_under: number };
}

const DIFFERENCE_TIERS: readonly DifferenceTier[] = ["lowrank", "residual"];

export const dedupeCommand = defineCommand<DedupeOptions, Dedupe>({
  usage: "dedupe [model...]",
  summary: "what the models share, block by block, and what differences to a base would save",
  options: [
    {
      flags: "--tiers <tiers>",
      help: "what to look for: exact, lowrank, residual (default: all)",
      parse: parseTiers,
    },
    {
      flags: "--apply",
      help: "keep blocks so: residuals without loss; low rank only where --tiers names it, since it is not exact",
    },
    { flags: "--keep-originals", help: "keep what low rank replaces, so that it can be undone (default)" },
    { flags: "--no-keep-originals", help: "give it up: less disk, no way back" },
    { flags: "--undo", help: "take merges back whose originals are kept, in the named models or all" },
    { flags: "--exact-only", help: "undo merges of the named models and allow none that changes numbers" },
    { flags: "--no-exact-only", help: "allow them again" },
    {
      flags: "--fail-under <ratio>",
      help: "exit with 3 when logical bytes / stored bytes is less",
      parse: realNumber("--fail-under", 1, 1000),
    },
    { flags: "--report <file>", help: "write a page for people: one HTML file that needs nothing else" },
  ],
  examples: [
    "blockllm dedupe",
    "blockllm dedupe support legal hr --fail-under 1.5",
    "blockllm dedupe base support --tiers exact,lowrank",
    "blockllm dedupe --report sharing.html",
    "blockllm dedupe --apply --tiers lowrank,residual",
    "blockllm dedupe --undo support",
  ],
  async run({ repositoryPath, signal, progress }, names, { failUnder, report: page, tiers, ...options }) {
    if (page !== undefined) await checkReportPath(page);
    const repository = await openRepository(repositoryPath);
    const change = await changeSharing(repository, names, { ...options, ...(tiers && { tiers }), signal, progress });
    // What was applied has just been looked for, and after an undo nobody asks for it.
    const wanted = Object.keys(change).length > 0 ? [] : (tiers ?? [...DIFFERENCE_TIERS]);
    if (wanted.length > 0) progress.start("comparing blocks");
    const report = await reportTiers(repository, names.length === 0 ? undefined : names, {
      tiers: wanted,
      signal,
      onProgress: ({ blocks, totalBlocks }) => progress.update(`sketched block ${blocks} of ${totalBlocks}`),
      onCompare: ({ blocks, totalBlocks }) => progress.update(`comparing block ${blocks + 1} of ${totalBlocks}`),
    });
    if (wanted.length > 0) progress.succeed(`compared ${report.blocks} blocks`);
    const value: Dedupe = { ...report, ...change, serving: await servingOf(repository, report) };
    if (failUnder !== undefined) value.gate = { passed: report.ratio >= failUnder, fail_under: failUnder };
    if (page !== undefined) {
      await writeReport(page, renderReport(value, { madeAt: new Date() }));
      progress.succeed(`wrote ${page}`);
    }
    return value;
  },
  print: (report) => [printSharing(report), ...printTiers(report), ...printChange(report)].join("\n"),
  verdict({ gate, ratio }) {
    if (gate === undefined || gate.passed) return null;
    return new BlockllmError(
      "gate_not_met",
      `the ratio is ${ratio.toFixed(2)}, --fail-under asks for ${gate.fail_under}`,
    );
  },
});

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
function parseTiers(text: string): DifferenceTier[] {
  const names = commaSeparated(text);
  const unknown = names.find((name) => name !== "exact" && !DIFFERENCE_TIERS.some((tier) => tier === name));
  if (unknown !== undefined || names.length === 0) {
    throw new BlockllmError("usage", `--tiers is "${text}"; it must name some of exact, lowrank, residual`);
  }
  return DIFFERENCE_TIERS.filter((tier) => names.includes(tier));
}
