import { BlockllmError } from "../support/errors.ts";

/** A request's body as text, given up as soon as it is longer than `limit` bytes. @throws `request_too_large` */
export async function readBody(request: Request, limit: number): Promise<string> {
  const announced = Number(request.headers.get("content-length") ?? 0);
  if (announced > limit) throw tooLarge(`${announced}`, limit);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    // A body sent in chunks does not announce its length.
    if (length > limit) throw tooLarge(`more than ${limit}`, limit);
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

function tooLarge(bytes: string, limit: number): BlockllmError {
  return new BlockllmError("request_too_large", `the request body has ${bytes} bytes; the limit is ${limit}`, {
    hint: "Send fewer or shorter prompts in one request.",
  });
}
