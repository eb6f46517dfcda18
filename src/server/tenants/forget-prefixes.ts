import type { Context } from "hono";
import { prefixOwner } from "../../engine/kv/prefix-keys.ts";
import type { RouteEnv } from "../route-env.ts";
import type { Service } from "../service.ts";

/**
 * DELETE /admin/prefixes/:tenant gives up the prompts kept of a tenant, of its whole group where it is in one; of a tenant
 * that is not in the file any more too.
 */
export async function forgetPrefixes(context: Context<RouteEnv>, { engine, tenants }: Service): Promise<Response> {
  const tenant = context.req.param("tenant") ?? "";
  const group = tenants.groupOf(tenant);
  const bytes = await engine.forgetPrefixes(prefixOwner(tenant, group));
  return Response.json({ tenant, group, bytes });
}
