import { createReadStream } from "node:fs";
import { z } from "zod";

import type { Digest } from "../../blocks/block.ts";
import { digestDocument } from "../../fingerprint/digest.ts";
import { canonicalModelName } from "../../store/model-name.ts";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf, wrongPathReason } from "../../support/reason.ts";
import type { ChatMessage } from "../../text/chat-template.ts";

/** A file of prompts, and the models it is for. */
export interface CalibrationFile {
  path: string;
  /** Canonical names; null: every model that a line of it does not limit. */
  models: readonly string[] | null;
}

export interface CalibrationLine {
  question: { prompt: string } | { messages: ChatMessage[] };
  /** What a right answer begins with. */
  answer: string | null;
  /** null: for every model. */
  models: readonly string[] | null;
  /** "line 3 of prompts.jsonl" */
  place: string;
}

export interface Calibration {
  lines: CalibrationLine[];
  /** Of what the lines say, whatever the files are called. */
  digest: Digest;
}

const MOST_BYTES = 64 * 2 ** 20;
const MOST_LINES = 20_000;
const HINT =
  'every line is like {"prompt": "...", "answer": "..."} or {"messages": [{"role": "user", "content": "..."}]}';

const text = z.string().min(1);
const message = z.object({ role: text, content: z.string() });
const record = z
  .strictObject({
    prompt: text.optional(),
    messages: z.array(message).min(1).optional(),
    answer: text.optional(),
    model: text.optional(),
  })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    message: "it needs prompt or messages, and not both",
  });

/** JSON lines, or one JSON array of the same objects. Throws `usage` with file and line. */
export async function readCalibration(files: readonly CalibrationFile[], signal?: AbortSignal): Promise<Calibration> {
  const lines: CalibrationLine[] = [];
  for (const { path, models } of files) {
    for (const { value, place } of await readRecords(path, signal)) lines.push(understand(value, { place, models }));
    if (lines.length > MOST_LINES)
      throw wrong(`${lines.length} lines by the end of ${path}`, `at most ${MOST_LINES} are used`);
  }
  const said = lines.map(({ question, answer, models }) => ({ ...question, answer, models }));
  return { lines, digest: digestDocument(said) };
}

async function readRecords(
  path: string,
  signal: AbortSignal | undefined,
): Promise<{ value: unknown; place: string }[]> {
  const content = await readText(path, signal);
  if (content.trimStart().startsWith("[")) {
    const values = parse(content, path) as unknown[];
    if (values.length === 0) throw wrong(path, "it has no lines");
    return values.map((value, at) => ({ value, place: `entry ${at + 1} of ${path}` }));
  }
  const lines = content.split("\n").map((line, at) => ({ line, place: `line ${at + 1} of ${path}` }));
  const written = lines.filter(({ line }) => line.trim() !== "");
  if (written.length === 0) throw wrong(path, "it has no lines");
  return written.map(({ line, place }) => ({ value: parse(line, place), place }));
}

/** Pipes and devices do not say how much comes. */
async function readText(path: string, signal: AbortSignal | undefined): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of createReadStream(path, { signal }) as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MOST_BYTES) throw wrong(path, `it has more than the ${MOST_BYTES} bytes that are read`);
      chunks.push(chunk);
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    if (cause instanceof BlockllmError || signal?.aborted) throw cause;
    throw wrong(path, wrongPathReason(cause) ?? reasonOf(cause), cause);
  }
}

function parse(json: string, place: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw wrong(place, `not JSON: ${reasonOf(cause)}`, cause);
  }
}

function understand(
  value: unknown,
  { place, models }: { place: string; models: readonly string[] | null },
): CalibrationLine {
  const parsed = record.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw wrong(place, `${issue.path.length === 0 ? "" : `${issue.path.join(".")}: `}${issue.message}`);
  }
  const { prompt, messages, answer = null, model } = parsed.data;
  return {
    question: prompt === undefined ? { messages: messages! } : { prompt },
    answer,
    models: model === undefined ? models : [modelName(model, place)],
    place,
  };
}

function modelName(name: string, place: string): string {
  try {
    return canonicalModelName(name);
  } catch (cause) {
    throw wrong(place, reasonOf(cause), cause);
  }
}

function wrong(place: string, reason: string, cause?: unknown): BlockllmError {
  return new BlockllmError("usage", `--calibration: ${place}: ${reason}`, { hint: HINT, cause });
}
