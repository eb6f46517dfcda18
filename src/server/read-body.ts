import { BlockllmError } from "../support/errors.ts";

/**
 * So much of a body that is too long is read and thrown away, in limits: a client that is still sending when the connection
 * closes never sees why, and tries again.
 */
const DISCARDED = 4;

/** A request's body as text. @throws `request_too_large` for more than `limit` bytes, `request_invalid` for a packed one */
export async function readBody(request: Request, limit: number): Promise<string> {
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding !== "identity") throw packed(encoding);
  const announced = Number(request.headers.get("content-length") ?? 0);
  if (announced > limit * DISCARDED) throw tooLarge(`${announced}`, limit);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    if (length <= limit) chunks.push(chunk);
    else chunks.length = 0;
    // A body sent in chunks does not announce its length.
    if (length > limit * DISCARDED) break;
  }
  if (length > limit) throw tooLarge(announced > 0 ? `${announced}` : `more than ${limit}`, limit);
  return new TextDecoder().decode(Buffer.concat(chunks));
}

function packed(encoding: string): BlockllmError {
  return new BlockllmError(
    "request_invalid",
    `the request body has content-encoding ${encoding}, which is not unpacked`,
    {
      hint: "Send the body as it is, without that header.",
    },
  );
}

function tooLarge(bytes: string, limit: number): BlockllmError {
  return new BlockllmError("request_too_large", `the request body has ${bytes} bytes; the limit is ${limit}`, {
    hint: "Send fewer or shorter prompts in one request.",
  });
}
