import { collectGarbage, type Garbage } from "../../store/collect-garbage.ts";
import { openRepository } from "../../store/open-repository.ts";
import { defineCommand } from "../command.ts";
import { formatBytes, formatCount } from "../output/format.ts";
import { duration } from "../parse-values.ts";

interface GcOptions {
  grace?: number;
  dryRun?: boolean;
}

export const gcCommand = defineCommand<GcOptions, Garbage>({
  usage: "gc",
  summary: "remove the blobs that no model uses",
  options: [
    {
      flags: "--grace <duration>",
      help: "leave alone what is younger: a running split may still need it (default: 1h)",
      parse: duration("--grace"),
    },
    { flags: "--dry-run", help: "only say what would go" },
  ],
  examples: ["blockllm gc --dry-run", "blockllm gc --grace 15m"],
  async run({ repositoryPath, signal }, _operands, { grace, dryRun = false }) {
    const repository = await openRepository(repositoryPath);
    return await collectGarbage(repository, { signal, dryRun, ...(grace === undefined ? {} : { graceMs: grace }) });
  },
  print({ dry_run, removed, removed_bytes, young_blobs, kept_blobs, kept_bytes }) {
    const verb = dry_run ? "would remove" : "removed";
    const young = young_blobs === 0 ? "" : `; ${formatCount(young_blobs, "unused blob")} too young to go`;
    return [
      `${verb} ${formatCount(removed.length, "blob")}, ${formatBytes(removed_bytes)}${young}`,
      `kept ${formatCount(kept_blobs, "blob")}, ${formatBytes(kept_bytes)}`,
    ].join("\n");
  },
});
