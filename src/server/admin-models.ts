import type { Context } from "hono";
import { z } from "zod";
import type { ServedModel } from "../engine/request.ts";
import { BlockllmError } from "../support/errors.ts";
import { findModel } from "./find-model.ts";
import { parseRequest } from "./openai/parse-request.ts";
import { readBody } from "./read-body.ts";
import type { RouteEnv } from "./route-env.ts";
import type { Service } from "./service.ts";
import { requireOperator } from "./tenants/require-operator.ts";
import { withTag } from "./tenants/tenant-directory.ts";

const addRequest = z.strictObject({ model: z.string().min(1) });

/** For operators alone. @throws `invalid_api_key`; `route_not_found` on a server where nobody has keys */
export function requireAdmin({ tenants }: Service, authorization: string | null): void {
  if (tenants.open) {
    throw new BlockllmError("route_not_found", "a server without tenants has no admin paths", {
      hint: "SIGHUP has it read the repository again; with --tenants, operators may use them.",
    });
  }
  requireOperator(tenants, authorization);
}

/** GET /admin/models */
export function listServed(_: Context<RouteEnv>, service: Service): Response {
  return respond(service);
}

/** POST /admin/models: serves one more model of the repository, or one that was replaced there anew. */
export async function addModel(context: Context<RouteEnv>, service: Service): Promise<Response> {
  const { model } = parseRequest(await readBody(context.req.raw, service.limits.bodyBytes), addRequest, {});
  await service.changeModels((served) => [...served.filter((name) => withTag(name) !== withTag(model)), model]);
  return respond(service);
}

/** DELETE /admin/models/:model */
export async function removeModel(context: Context<RouteEnv>, service: Service): Promise<Response> {
  const { name: removed } = findModel(service.engine, context.req.param("model") ?? "", null);
  await service.changeModels((served) => served.filter((name) => name !== removed));
  return respond(service);
}

function respond({ engine }: Service): Response {
  return Response.json({ models: engine.models.map((model) => describe(model)) });
}

function describe({ name, contextLength, contextBound, document }: ServedModel): object {
  return {
    name,
    max_model_len: contextLength,
    bound_by: contextBound,
    family: document.family,
    precision: document.precision,
  };
}
