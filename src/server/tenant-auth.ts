import { createHash, timingSafeEqual } from "node:crypto";
import { BlockllmError } from "../support/errors.ts";

/** What a key opens. */
export interface TenantAccess {
  tenant: string;
  /** Names of the models it may use; null: all. */
  models: readonly string[] | null;
}

/** Who asks. Without keys everybody is nobody in particular. */
export type Caller = TenantAccess | null;

/** From an `Authorization` header to who asks. @throws `invalid_api_key` */
export type Authenticate = (authorization: string | null) => Caller;

/** @param keys The keys themselves; null: the server is open. */
export function createAuthenticate(keys: ReadonlyMap<string, TenantAccess> | null): Authenticate {
  if (keys === null) return () => null;
  const known = Array.from(keys, ([key, access]) => ({ digest: sha256(key), access }));
  return (authorization) => {
    const key = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (key === undefined) {
      throw new BlockllmError("invalid_api_key", "the request has no API key", {
        hint: "Send it as `Authorization: Bearer <key>`.",
      });
    }
    // Digests of equal length, all of them compared: the time taken says nothing about any key.
    const digest = sha256(key);
    const matching = known.filter((entry) => timingSafeEqual(entry.digest, digest));
    const access = matching[0]?.access;
    if (access === undefined) {
      throw new BlockllmError("invalid_api_key", "the API key is not known", {
        hint: "Ask whoever runs the server for a key.",
      });
    }
    return access;
  };
}

export function mayUse(caller: Caller, model: string): boolean {
  return caller === null || caller.models === null || caller.models.includes(model);
}

function sha256(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
