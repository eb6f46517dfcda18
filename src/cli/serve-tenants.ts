import { isIP } from "node:net";
import type { Tenant } from "../server/tenants/tenant.ts";
import { mayUse } from "../server/tenants/tenant-directory.ts";
import { isOpenToOthers, readTenants } from "../server/tenants/tenants-file.ts";
import { BlockllmError } from "../support/errors.ts";
import { formatCount } from "./output/format.ts";

/** The tenants of a file, and what its operator should know about it. */
export interface LoadedTenants {
  tenants: Tenant[];
  warnings: string[];
}

/** `models`: those that are served. Errors as readTenants. */
export async function loadTenants(path: string, models: readonly string[]): Promise<LoadedTenants> {
  const tenants = await readTenants(path);
  const warnings = (await isOpenToOthers(path))
    ? [`${path} can be read or written by everybody here: chmod 600 ${path}`]
    : [];
  for (const tenant of tenants) {
    const absent = (tenant.models ?? []).filter(
      (name) => !models.some((model) => mayUse({ ...tenant, models: [name] }, model)),
    );
    if (absent.length > 0) warnings.push(`tenant ${tenant.name} may use ${absent.join(", ")}, which is not served`);
  }
  return { tenants, warnings };
}

/** `3 tenants, 4 keys` */
export function describeTenants(tenants: readonly Tenant[]): string {
  const keys = tenants.reduce((sum, tenant) => sum + tenant.keys.length, 0);
  return `${formatCount(tenants.length, "tenant")}, ${formatCount(keys, "key")}`;
}

/** Error `usage`: others could reach a server that asks for no key, and nobody said that they may. */
export function requireKeysBeyondLoopback(host: string, { tenants, open }: { tenants?: string; open?: boolean }): void {
  if (tenants !== undefined || open === true || isLoopback(host)) return;
  throw new BlockllmError("usage", `--host ${host} can be reached from other machines, and no key would be asked for`, {
    hint: "give --tenants <file> (`blockllm tenant add <name>` makes one), or --open to answer everybody",
  });
}

function isLoopback(host: string): boolean {
  if (host === "localhost" || host === "::1") return true;
  return isIP(host) === 4 && host.startsWith("127.");
}
