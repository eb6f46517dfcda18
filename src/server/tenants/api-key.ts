import { createHash, randomBytes } from "node:crypto";

const RANDOM_BYTES = 32;

/** 256 random bits: nothing is gained by guessing, so one round of sha256 is enough to keep. */
export function newApiKey(): string {
  return `bk-${randomBytes(RANDOM_BYTES).toString("base64url")}`;
}

/** The form in which a key is kept: hex digits. */
export function hashApiKey(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
