import { openRepository } from "../../store/open-repository.ts";
import { reportSharing, type SharingReport } from "../../store/sharing.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { printSharing } from "../output/sharing.ts";
import { realNumber } from "../parse-values.ts";

interface DedupeOptions {
  failUnder?: number;
}

export interface Dedupe extends SharingReport {
  gate?: { passed: boolean; fail_under: number };
}

export const dedupeCommand = defineCommand<DedupeOptions, Dedupe>({
  usage: "dedupe [model...]",
  summary: "what the models share, block by block",
  options: [
    {
      flags: "--fail-under <ratio>",
      help: "exit with 3 when logical bytes / stored bytes is less",
      parse: realNumber("--fail-under", 1, 1000),
    },
  ],
  examples: ["blockllm dedupe", "blockllm dedupe support legal hr --fail-under 1.5"],
  async run({ repositoryPath }, names, { failUnder }) {
    const repository = await openRepository(repositoryPath);
    const report = await reportSharing(repository, names.length === 0 ? undefined : names);
    if (failUnder === undefined) return report;
    return { ...report, gate: { passed: report.ratio >= failUnder, fail_under: failUnder } };
  },
  print: (report) => printSharing(report),
  verdict({ gate, ratio }) {
    if (gate === undefined || gate.passed) return null;
    return new BlockllmError(
      "gate_not_met",
      `the ratio is ${ratio.toFixed(2)}, --fail-under asks for ${gate.fail_under}`,
    );
  },
});
