/**
 * What the importer makes of a folder full of exports: how many are cut, kept whole or refused, and how many give the tokens
 * that Python's ONNX Runtime gave.
 *
 *   npm run bench:corpus -- --exports <folder> [--only <part of a path>] [--json]
 *
 * An export is a folder with a graph in it, at any depth; `golden.json` beside the graph has the tokens. Ends with 1 where one
 * gives other tokens, or fails. Recipes for some hundreds are in fixtures/make/exports.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";

import { openForward } from "../src/engine/forward.ts";
import { addModel, KEPT_WHOLE } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import type { Repository } from "../src/store/repository.ts";
import { BlockllmError } from "../src/support/errors.ts";
import { reasonOf } from "../src/support/reason.ts";

const { values } = parseArgs({
  options: {
    exports: { type: "string" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});
if (values.exports === undefined) throw new Error("--exports is the folder below which the exports lie");

interface Judged {
  path: string;
  outcome: "cut" | "kept whole" | "refused";
  /** Why it is not cut; an error's code first. */
  reason?: string;
  /** Absent where there is no golden, or nothing to run. */
  tokens?: "right" | "right without optimisations" | "wrong" | "fails";
  /** The first token that is not the golden's, counted from 0, and how far from Python's the first logits are. */
  wrongAt?: number;
  logits?: number;
}

interface Golden {
  prompt: number[];
  greedy: number[];
  /** Where ONNX Runtime gives other tokens without its graph optimisations: those. */
  greedy_unoptimised?: number[];
  first_logits_top16: [number, number][];
}

const root = values.exports;
const judged: Judged[] = [];
for (const path of exportsBelow(root).filter((each) => each.includes(values.only))) {
  const one = await judgeAlone(path);
  judged.push(one);
  if (!process.stderr.isTTY || one.outcome !== "cut" || one.tokens !== "right") console.error(lineOf(one));
}
if (values.json) console.log(JSON.stringify(judged, null, 2));
else console.log(summaryOf(judged));
if (judged.some(({ tokens }) => tokens === "wrong" || tokens === "fails")) process.exitCode = 1;

function exportsBelow(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
  const folders = files.filter((file) => file.endsWith(".onnx")).map((file) => dirname(join(folder, file)));
  return [...new Set(folders)].map((each) => relative(folder, each)).toSorted();
}

/** In a repository of its own: nothing is found stored already. */
async function judgeAlone(path: string): Promise<Judged> {
  const folder = await mkdtemp(join(tmpdir(), "blockllm-corpus-"));
  try {
    return await judge(await openRepository(folder, { create: true }), path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function judge(repository: Repository, path: string): Promise<Judged> {
  const source = join(root, path);
  try {
    const name = basename(path)
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-")
      .replaceAll(/^-|-$/g, "");
    const { document } = await addModel(repository, source, { name });
    const reason = document.warnings.find((warning) => warning.startsWith(KEPT_WHOLE))?.slice(KEPT_WHOLE.length);
    const one: Judged = { path, outcome: document.opaque ? "kept whole" : "cut", ...(reason && { reason }) };
    const golden = join(source, "golden.json");
    if (!existsSync(golden)) return one;
    const expected = JSON.parse(readFileSync(golden, "utf8")) as Golden;
    try {
      return { ...one, ...(await compare(repository, { name, vocabulary: document.vocabSize }, expected)) };
    } catch (error) {
      return { ...one, tokens: "fails", reason: reasonOf(error) };
    }
  } catch (error) {
    if (!(error instanceof BlockllmError)) throw error;
    return { path, outcome: "refused", reason: `${error.code}: ${error.message}` };
  }
}

async function compare(
  repository: Repository,
  { name, vocabulary }: { name: string; vocabulary: number },
  { prompt, greedy, greedy_unoptimised, first_logits_top16 }: Golden,
): Promise<Pick<Judged, "tokens" | "wrongAt" | "logits">> {
  const forward = await openForward(repository, name, { threads: 1 });
  try {
    const first = (await forward.logits(prompt)).slice(-vocabulary);
    const logits = Math.max(...first_logits_top16.map(([token, value]) => Math.abs(first[token]! - value)));
    const tokens = await forward.greedy(prompt, greedy.length);
    const wrongAt = greedy.findIndex((token, at) => tokens[at] !== token);
    if (wrongAt < 0) return { tokens: "right", logits };
    const plain = greedy_unoptimised?.join() === tokens.join();
    return { tokens: plain ? "right without optimisations" : "wrong", wrongAt, logits };
  } finally {
    await forward.close();
  }
}

function lineOf({ path, outcome, reason, tokens, wrongAt, logits }: Judged): string {
  const from = wrongAt === undefined ? "" : `, other from token ${wrongAt}`;
  const distance = logits === undefined ? "" : `, logits ${logits.toExponential(1)} apart`;
  return `${path}: ${outcome}, ${tokens ?? "no golden"}${from}${distance}${reason === undefined ? "" : `; ${reason}`}`;
}

function summaryOf(all: readonly Judged[]): string {
  const count = (matches: (one: Judged) => boolean): number => all.filter(matches).length;
  const cut = count(({ outcome }) => outcome === "cut");
  const whole = count(({ outcome }) => outcome === "kept whole");
  return [
    `${all.length} exports: ${cut} cut, ${whole} kept whole, ${count(({ outcome }) => outcome === "refused")} refused`,
    `${((100 * cut) / Math.max(1, cut + whole)).toFixed(1)} % of those taken are cut`,
    `${count(({ tokens }) => tokens === "right")} of ${count(({ tokens }) => tokens !== undefined)} with a golden give its tokens, ` +
      `${count(({ tokens }) => tokens === "right without optimisations")} those of ONNX Runtime without graph optimisations`,
  ].join("\n");
}
