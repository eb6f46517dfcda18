import { expect, test } from "vitest";
import { json, saying, testServer } from "./scripted-engine.ts";

const KEYS = new Map([
  ["key-of-acme", { tenant: "acme", models: ["support"] }],
  ["key-of-admin", { tenant: "admin", models: null }],
]);
const HELLO = { messages: [{ role: "user", content: "hello" }] };
const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });

test("without a key, with a wrong one, or with another scheme: 401, for every path of /v1", async () => {
  const { app } = testServer(() => saying("x"), { keys: KEYS });
  for (const path of ["/v1/models", "/v1/chat/completions", "/v1/nothing"]) {
    for (const authorization of [undefined, "Bearer wrong", "Bearer key-of-acm", "Basic key-of-acme", "Bearer "]) {
      const response = await app.request(path, authorization === undefined ? {} : { headers: { authorization } });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
      expect((await json(response)).error).toMatchObject({ code: "invalid_api_key", type: "authentication_error" });
    }
  }
});

test("a key opens its own models and names its tenant to the engine", async () => {
  const { app, post, engine } = testServer(() => saying("x"), { keys: KEYS });
  const models = await json(app.request("/v1/models", bearer("key-of-acme")));
  expect(models.data.map((model: { id: string }) => model.id)).toEqual(["support"]);
  await post("/v1/chat/completions", { ...HELLO, model: "support" }, bearer("key-of-acme"));
  expect(engine.requests[0]!.tenant).toBe("acme");
  const foreign = await post("/v1/chat/completions", { ...HELLO, model: "legal" }, bearer("key-of-acme"));
  expect(foreign.status).toBe(404);
  expect((await json(foreign)).error.message).toBe('the model "legal" is not served here. Models: support.');
  expect((await app.request("/v1/models/legal", bearer("key-of-acme"))).status).toBe(404);
});

test("a key without a list of models opens all", async () => {
  const { app } = testServer(() => saying("x"), { keys: KEYS });
  expect((await json(app.request("/v1/models", bearer("key-of-admin")))).data).toHaveLength(3);
});

test("health and metrics need no key", async () => {
  const { app } = testServer(() => saying("x"), { keys: KEYS });
  expect((await app.request("/healthz")).status).toBe(200);
  expect((await app.request("/metrics")).status).toBe(200);
});

test("without keys everybody may use everything, and is no tenant", async () => {
  const { app, post, engine } = testServer(() => saying("x"));
  expect((await json(app.request("/v1/models"))).data).toEqual([
    { id: "support", object: "model", created: 0, owned_by: "blockllm", max_model_len: 64 },
    { id: "legal", object: "model", created: 0, owned_by: "blockllm", max_model_len: 64 },
    { id: "bare", object: "model", created: 0, owned_by: "blockllm", max_model_len: 64 },
  ]);
  await post("/v1/chat/completions", { ...HELLO, model: "legal" }, bearer("anything"));
  expect(engine.requests[0]).not.toHaveProperty("tenant");
});

test("a key map without keys lets nobody in", async () => {
  const { app } = testServer(() => saying("x"), { keys: new Map() });
  expect((await app.request("/v1/models", bearer("anything"))).status).toBe(401);
});
