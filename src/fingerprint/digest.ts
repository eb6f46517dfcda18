import { createHash, hash } from "node:crypto";

import type { Digest } from "../blocks/block.ts";
import { canonicalJson } from "./canonical-json.ts";

const PATTERN = /^sha256:[0-9a-f]{64}$/;

export function isDigest(text: string): text is Digest {
  return PATTERN.test(text);
}

/** The digest of exactly these bytes: identity, everywhere in blockllm. */
export function digestBytes(bytes: Uint8Array): Digest {
  return `sha256:${hash("sha256", bytes, "hex")}`;
}

/** A digest of bytes that arrive in chunks. `finish` may be called once. */
export function startDigest(): { update(chunk: Uint8Array): void; finish(): Digest } {
  const running = createHash("sha256");
  return {
    update: (chunk) => void running.update(chunk),
    finish: () => `sha256:${running.digest("hex")}`,
  };
}

/** The digest of a document as it is stored: of its canonical JSON bytes (RFC 8785). */
export function digestDocument(document: object): Digest {
  return digestBytes(canonicalJson(document));
}

/** The 64 hex characters: a blob's file name, and the `location` of a tensor inside a part graph. */
export function digestHex(digest: Digest): string {
  return digest.slice("sha256:".length);
}

/** `hex` must be 64 lower-case hex characters; anything else is a bug of the caller. */
export function digestFromHex(hex: string): Digest {
  const digest = `sha256:${hex}`;
  if (!isDigest(digest)) throw new Error(`not a sha256 in hex: ${JSON.stringify(hex)}`);
  return digest;
}
