import type { Context } from "hono";
import type { RouteEnv } from "./route-env.ts";
import type { Service } from "./service.ts";

/** GET /healthz: 503 while draining, so that load balancers turn away before the port closes. */
export function health(_: Context<RouteEnv>, { engine, running }: Service): Response {
  const { draining } = running;
  const models = engine.models.map((model) => model.name);
  const body = { status: draining ? "draining" : "ok", models, running: running.count };
  return Response.json(body, { status: draining ? 503 : 200 });
}
