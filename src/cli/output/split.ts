import { KEPT_WHOLE } from "../../store/add-model.ts";
import type { ErrorCode } from "../../support/errors.ts";
import type { BlockSharing } from "../../store/sharing.ts";
import { formatBytes, formatCount, formatDuration } from "./format.ts";
import { renderTable } from "./table.ts";

/** The keys are the stable JSON of `split`. */
export interface Split {
  models: SplitModel[];
  /** Of several models in one command, those that nothing was stored of. */
  refused: RefusedModel[];
}

export interface RefusedModel {
  path: string;
  code: ErrorCode;
  message: string;
  hint: string | null;
}

export interface SplitModel {
  name: string;
  digest: string;
  blocks: BlockSharing[];
  bytes: number;
  /** Bytes that no model had that was in the repository when this one was added. */
  unique_bytes: number;
  exporter: string;
  family: string;
  precision: string;
  opaque: boolean;
  /** What was recognised and how; empty for an opaque model. */
  recognised: string[];
  /** What was not, and why. */
  warnings: string[];
  milliseconds: number;
}

export function printSplit({ models, refused }: Split): string {
  const reasons = refused.map(({ path, message }) => `${path}\n  refused: ${message}`);
  if (models.length === 0) return reasons.join("\n\n");
  const table = renderTable(
    [
      { head: "model" },
      { head: "blocks", align: "right" },
      { head: "size", align: "right" },
      { head: "new", align: "right" },
      { head: "already there", align: "right" },
      { head: "time", align: "right" },
    ],
    models.map(({ name, blocks, bytes, unique_bytes, opaque, milliseconds }) => [
      name,
      opaque ? "opaque" : blocks.length,
      formatBytes(bytes),
      formatBytes(unique_bytes),
      formatBytes(bytes - unique_bytes),
      formatDuration(milliseconds),
    ]),
  );
  return [table, ...findings(models), ...reasons, summary(models)].join("\n\n");
}

/** One section per kind of model: fine-tunes of one base differ in nothing that is said here. */
function findings(models: SplitModel[]): string[] {
  const names = new Map<string, string[]>();
  for (const model of models) {
    const text = describeModel(model);
    names.set(text, [...(names.get(text) ?? []), model.name]);
  }
  return Array.from(names, ([text, alike]) => `${listNames(alike)}\n${text}`);
}

function describeModel({ family, precision, exporter, recognised, warnings }: SplitModel): string {
  const origin = `${family === "unknown" ? "family not named" : family}, ${precision}, written by ${exporter}`;
  return [origin, ...recognised, ...warnings.map((warning) => `warning: ${warning}`)]
    .map((line) => `  ${line}`)
    .join("\n");
}

function listNames(names: string[]): string {
  const more = names.length - NAMES_SHOWN;
  return more > 0 ? `${names.slice(0, NAMES_SHOWN).join(", ")} and ${more} more` : names.join(", ");
}

const NAMES_SHOWN = 8;

function summary(models: SplitModel[]): string {
  const whole = models.filter(({ opaque }) => opaque);
  const cut = `${formatCount(models.length - whole.length, "model")} cut into blocks`;
  if (whole.length === 0) return cut;
  const reasons = whole.map(({ name, warnings }) => {
    const reason = warnings.find((warning) => warning.startsWith(KEPT_WHOLE))?.slice(KEPT_WHOLE.length);
    return `${name} (${reason ?? "no reason given"})`;
  });
  return `${cut}, ${whole.length} kept whole: ${reasons.join("; ")}`;
}
