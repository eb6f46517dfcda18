import { restoredChain } from "../../store/merged-chain.ts";
import type { StoredModel } from "../../store/repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { type FileSource, loadTextModel } from "../../text/load-text-model.ts";
import type { TextModel } from "../../text/text-model.ts";
import type { ModelDocument } from "../../store/model-document.ts";
import type { Calibration, CalibrationLine } from "./read-calibration.ts";

/** A model that may be changed, with the prompts to ask it. */
export interface AskableModel {
  name: string;
  /** As split. */
  document: ModelDocument;
  current: ModelDocument;
  text: TextModel;
  lines: CalibrationLine[];
  /** Lines that ask what another one asks. */
  repeated: number;
}

export interface LeftOutModel {
  model: string;
  reason: string;
  /** So many of its blocks run merged without an original: what that costs cannot be measured any more. */
  without_originals?: number;
}

/** With fewer, nothing would be left to hold out. */
const LEAST_PROMPTS = 3;

/** Which models may be changed, and why the others may not. */
export async function chooseModels(
  repository: FileSource,
  models: readonly StoredModel[],
  calibration: Calibration,
): Promise<{ askable: AskableModel[]; leftOut: LeftOutModel[] }> {
  const askable: AskableModel[] = [];
  const leftOut: LeftOutModel[] = [];
  for (const { name, document: current } of models) {
    const { lines, repeated } = linesFor(calibration, name);
    const lost = current.chain.filter(({ replaces }) => replaces?.kept === false).length;
    // Measured against what is left, each merge would take the whole budget anew. A gate must know of these first of all.
    if (lost > 0) {
      leftOut.push({
        model: name,
        reason: `originals of ${lost} merged blocks were not kept`,
        without_originals: lost,
      });
      continue;
    }
    const reason = reasonAgainst(current, lines.length);
    const text = reason === null ? await textModelOf(repository, current) : null;
    if (text === null) {
      leftOut.push({ model: name, reason: reason ?? "it came without a tokenizer" });
      continue;
    }
    const document = { ...current, chain: restoredChain(current.chain) };
    askable.push({ name, document, current, text, lines, repeated });
  }
  return { askable, leftOut };
}

/**
 * What a model is asked, each question once: asked twice it would be among those that choose merges and among those held
 * out to judge them, and would count as two answers where there is one.
 */
export function linesFor({ lines }: Calibration, model: string): Pick<AskableModel, "lines" | "repeated"> {
  const own = lines.filter(({ models }) => models?.includes(model) ?? true);
  const distinct = new Map(own.toReversed().map((line) => [JSON.stringify(line.question), line]));
  const asked = own.filter((line) => distinct.get(JSON.stringify(line.question)) === line);
  return { lines: asked, repeated: own.length - asked.length };
}

/** Throws `usage` for a line that is for a model which is not in the repository. */
export function checkModelNames({ lines }: Calibration, known: ReadonlySet<string>): void {
  for (const { models, place } of lines) {
    const unknown = models?.find((name) => !known.has(name));
    if (unknown === undefined) continue;
    throw new BlockllmError("usage", `--calibration: ${place}: no model is called ${unknown}`, {
      hint: `the repository has ${[...known].join(", ")}`,
    });
  }
}

function reasonAgainst({ exactOnly, opaque }: ModelDocument, prompts: number): string | null {
  if (exactOnly === true) return "it is marked exact only";
  if (opaque) return "it was kept whole";
  if (prompts < LEAST_PROMPTS)
    return `the calibration has ${prompts} different prompts for it, at least ${LEAST_PROMPTS} are needed`;
  return null;
}

async function textModelOf(repository: FileSource, document: ModelDocument): Promise<TextModel | null> {
  try {
    return await loadTextModel(repository, document);
  } catch (error) {
    if (error instanceof BlockllmError && error.code === "tokenizer_missing") return null;
    throw error;
  }
}
