import { hashApiKey } from "../../../src/server/tenants/api-key.ts";
import type { Tenant } from "../../../src/server/tenants/tenant.ts";

/** A tenant without limits whose key is `key-of-<name>`. */
export function makeTenant(name: string, given: Partial<Tenant> = {}): Tenant {
  return {
    name,
    keys: [{ sha256: hashApiKey(`key-of-${name}`), ends: null }],
    models: null,
    group: null,
    operator: false,
    ...given,
    limits: { tokensPerMinute: null, maxTokens: null, ...given.limits },
  };
}

export const bearer = (name: string) => ({ headers: { authorization: `Bearer key-of-${name}` } });
