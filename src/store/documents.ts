import type { z } from "zod";

import { BlockllmError } from "../support/errors.ts";
import type { BlobStore } from "./blob-store.ts";
import type { Descriptor } from "./descriptor.ts";
import { blobCorrupt } from "./storage-error.ts";

/** Far above any real document (a block is a few KiB); a foreign blob of gigabytes is refused before it is read. */
const DOCUMENT_BYTES_LIMIT = 16 << 20;

/** A document's bytes, verified. */
export async function readSmallBlob(
  blobs: BlobStore,
  { digest, size }: Pick<Descriptor, "digest" | "size">,
): Promise<Uint8Array> {
  if (size > DOCUMENT_BYTES_LIMIT) {
    throw blobCorrupt(digest, `${size} bytes are more than the ${DOCUMENT_BYTES_LIMIT} a document may have`);
  }
  return await blobs.read(digest, size);
}

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
