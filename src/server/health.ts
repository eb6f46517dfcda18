import type { Context } from "hono";
import { reasonOf } from "../support/reason.ts";
import type { RouteEnv } from "./route-env.ts";
import type { Service } from "./service.ts";
import { within } from "./within.ts";

/**
 * GET /healthz: 503 while draining, so that load balancers turn away before the port closes, and once the engine died. Where there
 * are keys it names no models: whoever has none may ask.
 */
export async function health(_: Context<RouteEnv>, { engine, running, limits, tenants }: Service): Promise<Response> {
  const body = tenants.open ? { models: engine.models.map((model) => model.name), running: running.count } : {};
  if (running.draining) return Response.json({ status: "draining", ...body }, { status: 503 });
  try {
    // An engine in the middle of a long step answers late: that is no illness.
    await within(engine.stats(), limits.healthMs);
  } catch (error) {
    return Response.json({ status: "failed", reason: reasonOf(error), ...body }, { status: 503 });
  }
  return Response.json({ status: "ok", ...body });
}
