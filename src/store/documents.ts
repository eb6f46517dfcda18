import type { z } from "zod";

import { BlockllmError } from "../support/errors.ts";

/** Far above any real document (a block is a few KiB); a foreign blob of gigabytes is refused before it is read. */
export const DOCUMENT_BYTES_LIMIT = 16 << 20;

/** JSON bytes as the document they must be; `what` names it in the error (`repository_invalid`). */
export function parseDocument<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  const parsed = schema.safeParse(parseJson(bytes, what));
  if (parsed.success) return parsed.data;
  const first = parsed.error.issues[0];
  throw invalid(`${what} is not what it should be: ${first?.path.join(".") || "it"}: ${first?.message ?? "unknown"}`);
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalid(`${what} is not JSON: ${(cause as Error).message}`, cause);
  }
}

function invalid(message: string, cause?: unknown): BlockllmError {
  return new BlockllmError("repository_invalid", message, {
    hint: "run `blockllm check`; a newer blockllm may have written it",
    cause,
  });
}
