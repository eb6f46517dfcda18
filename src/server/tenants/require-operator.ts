import { BlockllmError } from "../../support/errors.ts";
import type { TenantDirectory } from "./tenant-directory.ts";

/** Lets everybody pass where nobody has keys. @throws `invalid_api_key` for tenants that are not operators */
export function requireOperator(tenants: TenantDirectory, authorization: string | null): void {
  const caller = tenants.authenticate(authorization);
  if (caller === null || caller.operator) return;
  throw new BlockllmError("invalid_api_key", "this path wants the key of an operator", {
    hint: "`blockllm tenant add <name> --operator` makes one.",
  });
}
