import { createHash, timingSafeEqual } from "node:crypto";
import { ownerLabel, prefixOwner, type PrefixOwner } from "../../engine/kv/prefix-keys.ts";
import { BlockllmError } from "../../support/errors.ts";
import { type Clock, systemClock } from "../../support/clock.ts";
import type { Tenant } from "./tenant.ts";

/** Who asks. Without tenants everybody is nobody in particular. */
export type Caller = Tenant | null;

interface KnownKey {
  digest: Buffer;
  ends: number;
  tenant: Tenant;
}

/** Whose key is whose. The list may be replaced while requests run; they keep the tenant they began as. */
export class TenantDirectory {
  readonly #clock: Clock;
  #known: KnownKey[] | null;

  /** `tenants` null: the server is open to everybody who reaches it. */
  constructor(tenants: readonly Tenant[] | null, clock: Clock = systemClock) {
    this.#clock = clock;
    this.#known = tenants === null ? null : keysOf(tenants);
  }

  get open(): boolean {
    return this.#known === null;
  }

  /** An open server stays open: its clients have no keys. */
  replace(tenants: readonly Tenant[]): void {
    if (this.open) throw new Error("A server without tenants cannot be given some");
    this.#known = keysOf(tenants);
  }

  /** Whose prompts may be kept, each once. */
  prefixOwners(): Map<string, PrefixOwner> {
    const owners = (this.#known ?? []).map(({ tenant: { name, group } }) => prefixOwner(name, group));
    return new Map(owners.map((owner) => [ownerLabel(owner), owner]));
  }

  /** Of a tenant by its name; null: it has none, or is not known. */
  groupOf(name: string): string | null {
    return this.#known?.find(({ tenant }) => tenant.name === name)?.tenant.group ?? null;
  }

  /** From an `Authorization` header to who asks. @throws `invalid_api_key` */
  authenticate(authorization: string | null): Caller {
    if (this.#known === null) return null;
    const key = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (key === undefined) {
      throw new BlockllmError("invalid_api_key", "the request has no API key", {
        hint: "Send it as `Authorization: Bearer <key>`.",
      });
    }
    // Digests of equal length, all of them compared: the time taken says nothing about any key.
    const digest = createHash("sha256").update(key).digest();
    const matching = this.#known.filter((entry) => timingSafeEqual(entry.digest, digest));
    const [found] = matching;
    if (found === undefined || found.ends <= this.#clock.now()) {
      throw new BlockllmError("invalid_api_key", "the API key is not known", {
        hint: "Ask whoever runs the server for a key.",
      });
    }
    return found.tenant;
  }
}

function keysOf(tenants: readonly Tenant[]): KnownKey[] {
  return tenants.flatMap((tenant) =>
    tenant.keys.map(({ sha256, ends }) => ({ digest: Buffer.from(sha256, "hex"), ends: ends ?? Infinity, tenant })),
  );
}

export function mayUse(caller: Caller, model: string): boolean {
  return caller === null || caller.models === null || caller.models.some((name) => withTag(name) === withTag(model));
}

/** A model's name in full: the tag may be left out where it is `latest`. */
export function withTag(name: string): string {
  return name.includes(":") ? name : `${name}:latest`;
}
