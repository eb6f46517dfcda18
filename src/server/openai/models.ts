import type { Context } from "hono";
import type { ServedModel } from "../../engine/request.ts";
import { allowedModels, findModel } from "../find-model.ts";
import type { RouteEnv } from "../route-env.ts";
import type { Service } from "../service.ts";

/** GET /v1/models: those that the caller may use. */
export function listModels(context: Context<RouteEnv>, { engine }: Service): Response {
  const data = allowedModels(engine, context.get("caller")).map((model) => toWire(model));
  return Response.json({ object: "list", data });
}

/** GET /v1/models/:model */
export function showModel(context: Context<RouteEnv>, { engine }: Service): Response {
  return Response.json(toWire(findModel(engine, context.req.param("model") ?? "", context.get("caller"))));
}

/** OpenAI's four keys, and the context length under vLLM's name. Files do not say when a model was made: 0. */
function toWire({ name, contextLength }: ServedModel): object {
  return { id: name, object: "model", created: 0, owned_by: "blockllm", max_model_len: contextLength };
}
