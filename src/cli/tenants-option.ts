import { BlockllmError } from "../support/errors.ts";
import type { OptionDefinition } from "./command.ts";

const DEFAULT_FILE = "tenants.json";

export interface TenantsOption {
  tenants?: string;
}

/** Which file the tenant commands work on. */
export const TENANTS_OPTION: OptionDefinition = {
  flags: "--tenants <file>",
  help: `the file of tenants (default: ./${DEFAULT_FILE})`,
};

export function tenantsFile({ tenants }: TenantsOption): string {
  return tenants ?? DEFAULT_FILE;
}

/** For people who have just changed the file. */
export const RELOAD_ADVICE = "a server that runs reads the file again on SIGHUP: kill -HUP <pid>";

export function tenantNotFound(name: string, file: string): BlockllmError {
  return new BlockllmError("tenant_not_found", `${file} has no tenant "${name}"`, { hint: "blockllm tenant list" });
}
