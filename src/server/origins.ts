import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { BlockllmError } from "../support/errors.ts";
import { DEADLINE_HEADER } from "./openai/deadline.ts";

/**
 * Pages of these origins may read answers: https://fetch.spec.whatwg.org/#http-cors-protocol. `*`: pages of all.
 */
export function allowOrigins(origins: readonly string[]): MiddlewareHandler {
  return cors({
    origin: origins.includes("*") ? "*" : [...origins],
    allowMethods: ["GET", "HEAD", "POST", "DELETE"],
    allowHeaders: ["authorization", "content-type", DEADLINE_HEADER, ...STAINLESS_HEADERS],
    exposeHeaders: ["retry-after", "server-timing", "x-request-id"],
    maxAge: 3600,
  });
}

/** What the official client adds to every request. */
const STAINLESS_HEADERS = [
  "x-stainless-arch",
  "x-stainless-lang",
  "x-stainless-os",
  "x-stainless-package-version",
  "x-stainless-retry-count",
  "x-stainless-runtime",
  "x-stainless-runtime-version",
  "x-stainless-timeout",
];

/**
 * Where nobody has keys: a page that somebody has open could otherwise spend this machine's time, or read answers by having
 * its own name point here. Browsers name the page in `Origin`; other clients send none.
 * @throws `origin_not_allowed`
 */
export function requireAllowedOrigin(origin: string | undefined, allowed: readonly string[]): void {
  if (origin === undefined || allowed.includes("*") || allowed.includes(origin)) return;
  throw new BlockllmError("origin_not_allowed", `pages of ${origin} may not use this server`, {
    hint: `Start it with --cors ${origin} if they should.`,
  });
}
