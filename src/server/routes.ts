import { Hono } from "hono";
import type { Context } from "hono";
import { BlockllmError } from "../support/errors.ts";
import { addModel, listServed, removeModel, requireAdmin } from "./admin-models.ts";
import { health } from "./health.ts";
import { chatCompletions } from "./openai/chat-completions.ts";
import { completions } from "./openai/completions.ts";
import { clientGone, errorResponse, isOurFault } from "./openai/error-body.ts";
import { listModels, showModel } from "./openai/models.ts";
import { allowOrigins, requireAllowedOrigin } from "./origins.ts";
import type { RouteEnv } from "./route-env.ts";
import type { Service } from "./service.ts";
import { forgetPrefixes } from "./tenants/forget-prefixes.ts";
import { requireOperator } from "./tenants/require-operator.ts";

type Handler = (context: Context<RouteEnv>, service: Service) => Response | Promise<Response>;

const ROUTES: { path: string; method: "GET" | "POST" | "DELETE"; handler: Handler }[] = [
  { path: "/v1/chat/completions", method: "POST", handler: chatCompletions },
  { path: "/v1/completions", method: "POST", handler: completions },
  { path: "/v1/models", method: "GET", handler: listModels },
  { path: "/v1/models/:model", method: "GET", handler: showModel },
  { path: "/admin/prefixes/:tenant", method: "DELETE", handler: forgetPrefixes },
  { path: "/healthz", method: "GET", handler: health },
  { path: "/metrics", method: "GET", handler: metrics },
  { path: "/admin/models", method: "GET", handler: listServed },
  { path: "/admin/models", method: "POST", handler: addModel },
  { path: "/admin/models/:model", method: "DELETE", handler: removeModel },
];

const PATHS = [...new Set(ROUTES.map(({ path }) => path))];

/** The server without a port: `app.request()` answers like the real one. */
export function createApp(service: Service): Hono<RouteEnv> {
  const app = new Hono<RouteEnv>();

  app.use(async (context, next) => {
    context.set("requestId", `req_${service.newId()}`);
    await next();
    context.header("x-request-id", context.get("requestId"));
    // A client that kept its connection would send the next request into a port that closes.
    if (service.running.draining) context.header("connection", "close");
  });
  if (service.cors.length > 0) app.use("/v1/*", allowOrigins(service.cors));

  app.use("/v1/*", async (context, next) => {
    context.set("caller", null);
    context.set("model", "");
    await next();
    const tenant = context.get("caller")?.name ?? "";
    service.metrics.countRequest({ tenant, model: context.get("model") }, context.res.status);
  });
  app.use("/v1/*", async (context, next) => {
    if (service.tenants.open) requireAllowedOrigin(context.req.header("origin"), service.cors);
    context.set("caller", service.tenants.authenticate(context.req.header("authorization") ?? null));
    service.running.requireOpen();
    await next();
  });

  app.use("/admin/*", async (context, next) => {
    requireAdmin(service, context.req.header("authorization") ?? null);
    service.running.requireOpen();
    await next();
  });

  for (const { path, method, handler } of ROUTES) app.on(method, path, (context) => handler(context, service));
  for (const path of PATHS) {
    app.all(path, (context) => {
      const methods = ROUTES.filter((route) => route.path === path).map(({ method }) => method);
      const allowed = methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])).join(", ");
      if (context.req.method === "OPTIONS") return new Response(null, { status: 204, headers: { allow: allowed } });
      const error = new BlockllmError("method_not_allowed", `${context.req.method} ${context.req.path} is not served`, {
        hint: `Use ${allowed}.`,
      });
      return errorResponse(error, { allow: allowed });
    });
  }
  app.notFound((context) => {
    const hint = `Paths: ${PATHS.join(", ")}.`;
    return errorResponse(new BlockllmError("route_not_found", `there is no ${context.req.path} here`, { hint }));
  });
  app.onError((error, context) => {
    // Whoever breaks off in the middle of a request makes its reading fail: nobody is there to be told.
    if (context.req.raw.signal.aborted) return errorResponse(clientGone());
    if (isOurFault(error)) {
      service.log.error(`${context.get("requestId")} ${context.req.method} ${context.req.path}`, error);
    }
    return errorResponse(error);
  });
  return app;
}

/** GET /metrics: of all tenants together, so not for each of them. */
async function metrics(context: Context<RouteEnv>, service: Service): Promise<Response> {
  requireOperator(service.tenants, context.req.header("authorization") ?? null);
  return await service.metrics.respond();
}
