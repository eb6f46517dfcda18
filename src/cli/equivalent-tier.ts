import { type EquivalentFindings, findEquivalent } from "../engine/evaluate/find-equivalent.ts";
import { mergeModels } from "../engine/evaluate/merge-models.ts";
import { type CalibrationFile, readCalibration } from "../engine/evaluate/read-calibration.ts";
import type { Repository, StoredModel } from "../store/repository.ts";
import { readModels } from "../store/sharing.ts";
import { BlockllmError } from "../support/errors.ts";
import type { OptionDefinition } from "./command.ts";
import type { CommandContext } from "./context.ts";
import { calibrationFiles, realNumber } from "./parse-values.ts";

/** What a user says about blocks that behave alike. */
export interface EquivalentOptions {
  calibration?: CalibrationFile[];
  maxKl?: number;
  minTop1?: number;
  threshold?: number;
}

export const EQUIVALENT_OPTIONS: OptionDefinition[] = [
  {
    flags: "--calibration <file>",
    help: "prompts for the equivalent tier, as JSON lines; `hr,sales=<file>` for some models; may be repeated",
    parse: calibrationFiles,
  },
  {
    flags: "--max-kl <nats>",
    help: "merge blocks that behave alike while no model's mean KL from itself as split is more; else exit with 3",
    parse: realNumber("--max-kl", 0, 100),
  },
  {
    flags: "--min-top1 <share>",
    help: "the same by the share of positions with the same likeliest token",
    parse: realNumber("--min-top1", 0, 1),
  },
  {
    flags: "--threshold <cosine>",
    help: "try only blocks whose outputs have at least this mean cosine (default: 0.9)",
    parse: realNumber("--threshold", -1, 1),
  },
];

/** What was found and in which models, or why nothing was looked for. */
export type EquivalentTier =
  | { findings: EquivalentFindings; models: StoredModel[] }
  | { findings: null; unavailable?: string };

/** The search, done once however often it is asked for. */
export interface EquivalentSearch {
  find(): Promise<EquivalentTier>;
  /** Writes what is found; gives the names of the models that changed. */
  apply(options: { keepOriginals: boolean }): Promise<string[]>;
}

const DEFAULT_THRESHOLD = 0.9;
const NO_CALIBRATION = "no prompts say what the models are asked; --calibration prompts.jsonl gives some";

/** `wanted`: by `--tiers`, because none were named, or not at all. Throws `usage` for a budget without prompts. */
export function searchEquivalent(
  repository: Repository,
  names: string[] | undefined,
  options: EquivalentOptions & { wanted: "named" | "default" | "no" } & Pick<CommandContext, "signal" | "progress">,
): EquivalentSearch {
  const { calibration: files, wanted, signal } = options;
  refuseWithoutPrompts(options);
  let search: Promise<EquivalentTier> | undefined;
  const find = async (): Promise<EquivalentTier> => {
    if (wanted === "no") return { findings: null };
    if (files === undefined) return { findings: null, unavailable: NO_CALIBRATION };
    return await (search ??= findIn(repository, names, { ...options, files }));
  };
  return {
    find,
    apply: async ({ keepOriginals }) => {
      const tier = await find();
      if (tier.findings === null) return [];
      return await mergeModels(repository, tier.models, { findings: tier.findings, keepOriginals, signal });
    },
  };
}

async function findIn(
  repository: Repository,
  names: string[] | undefined,
  {
    files,
    maxKl: max_kl,
    minTop1: min_top1,
    threshold = DEFAULT_THRESHOLD,
    signal,
    progress,
  }: EquivalentOptions & { files: CalibrationFile[] } & Pick<CommandContext, "signal" | "progress">,
): Promise<EquivalentTier> {
  const calibration = await readCalibration(files, signal);
  progress.start("looking for blocks that behave alike");
  const models = await readModels(repository, names);
  const findings = await findEquivalent(repository, models, {
    calibration,
    budget: { max_kl, min_top1 },
    threshold,
    signal,
    onProgress: (text) => progress.update(text),
  });
  progress.succeed(`ran ${findings.report.measured} couples of blocks in each other's place`);
  return { findings, models };
}

function refuseWithoutPrompts({ calibration, maxKl, minTop1, wanted }: Parameters<typeof searchEquivalent>[2]): void {
  const asking =
    maxKl !== undefined || minTop1 !== undefined ? "--max-kl and --min-top1 ask" : "--tiers equivalent asks";
  if (calibration !== undefined || (maxKl === undefined && minTop1 === undefined && wanted !== "named")) return;
  throw new BlockllmError("usage", `${asking} what merges cost, and there are no prompts to measure it on`, {
    hint: 'give them with --calibration prompts.jsonl: lines like {"prompt": "...", "answer": "..."}',
  });
}
