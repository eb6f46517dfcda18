import { hashApiKey } from "../../../src/server/tenants/api-key.ts";
import type { Tenant } from "../../../src/server/tenants/tenant.ts";

type MakeTenant = Partial<Omit<Tenant, "limits">> & { limits?: Partial<Tenant["limits"]> };

/** A tenant without limits whose key is `key-of-<name>`. */
export function makeTenant(name: string, { limits, ...given }: MakeTenant = {}): Tenant {
  return {
    name,
    keys: [{ sha256: hashApiKey(`key-of-${name}`), ends: null }],
    models: null,
    group: null,
    operator: false,
    priority: "normal",
    weight: 1,
    ...given,
    limits: { running: null, queued: null, tokensPerMinute: null, maxTokens: null, ...limits },
  };
}

export const bearer = (name: string) => ({ headers: { authorization: `Bearer key-of-${name}` } });
