import { expect, test } from "vitest";
import { hashApiKey } from "../../../src/server/tenants/api-key.ts";
import { TenantDirectory } from "../../../src/server/tenants/tenant-directory.ts";
import { json, saying, testServer } from "../scripted-engine.ts";
import { bearer, makeTenant } from "./make-tenant.ts";

const TENANTS = [makeTenant("acme", { models: ["support:latest"] }), makeTenant("admin", { operator: true })];
const HELLO = { messages: [{ role: "user", content: "hello" }] };

test("without a key, with a wrong one, or with another scheme: 401, for every path of /v1", async () => {
  const { app } = testServer(() => saying("x"), { tenants: TENANTS });
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
  const { app, post, engine } = testServer(() => saying("x"), { tenants: TENANTS });
  const models = await json(app.request("/v1/models", bearer("acme")));
  expect(models.data.map((model: { id: string }) => model.id)).toEqual(["support"]);
  await post("/v1/chat/completions", { ...HELLO, model: "support" }, bearer("acme"));
  expect(engine.requests[0]!.tenant).toBe("acme");
  const foreign = await post("/v1/chat/completions", { ...HELLO, model: "legal" }, bearer("acme"));
  expect(foreign.status).toBe(404);
  expect((await json(foreign)).error.message).toBe('the model "legal" is not served here. Models: support.');
  expect((await app.request("/v1/models/legal", bearer("acme"))).status).toBe(404);
});

test("a key without a list of models opens all", async () => {
  const { app } = testServer(() => saying("x"), { tenants: TENANTS });
  expect((await json(app.request("/v1/models", bearer("admin")))).data).toHaveLength(3);
});

test("metrics are for operators, and health names no models", async () => {
  const { app } = testServer(() => saying("x"), { tenants: TENANTS });
  expect(await json(app.request("/healthz"))).toEqual({ status: "ok" });
  expect((await app.request("/metrics")).status).toBe(401);
  expect((await app.request("/metrics", bearer("acme"))).status).toBe(401);
  expect((await app.request("/metrics", bearer("admin"))).status).toBe(200);
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

test("a list without tenants lets nobody in", async () => {
  const { app } = testServer(() => saying("x"), { tenants: [] });
  expect((await app.request("/v1/models", bearer("anything"))).status).toBe(401);
});

test("a list can be replaced: new keys open, old ones do not, and who is already served stays who he is", async () => {
  const { app, service } = testServer(() => saying("x"), { tenants: TENANTS });
  service.tenants.replace([makeTenant("other")]);
  expect((await app.request("/v1/models", bearer("other"))).status).toBe(200);
  expect((await app.request("/v1/models", bearer("acme"))).status).toBe(401);
  expect(() => new TenantDirectory(null).replace(TENANTS)).toThrow("cannot be given some");
});

test("a key opens until it ends", () => {
  let now = 0;
  const keys = [
    { sha256: hashApiKey("old"), ends: 1000 },
    { sha256: hashApiKey("new"), ends: null },
  ];
  const directory = new TenantDirectory([makeTenant("acme", { keys })], { now: () => now });
  const opens = (key: string): boolean => {
    try {
      return directory.authenticate(`Bearer ${key}`)?.name === "acme";
    } catch {
      return false;
    }
  };
  expect([opens("old"), opens("new")]).toEqual([true, true]);
  now = 1000;
  expect([opens("old"), opens("new")]).toEqual([false, true]);
});

test("a tenant's longest answer bounds what it asks for and what it is given", async () => {
  const tenants = [makeTenant("acme", { limits: { maxTokens: 8 } })];
  const { post, engine } = testServer(() => saying("x"), { tenants });
  const refused = await post("/v1/chat/completions", { ...HELLO, model: "support", max_tokens: 9 }, bearer("acme"));
  expect(refused.status).toBe(400);
  expect((await json(refused)).error).toMatchObject({ param: "max_tokens" });
  await post("/v1/chat/completions", { ...HELLO, model: "support" }, bearer("acme"));
  await post("/v1/completions", { prompt: "hello", model: "support" }, bearer("acme"));
  expect(engine.requests.map(({ maxTokens }) => maxTokens)).toEqual([8, 8]);
});

test("tokens per minute: 429 that says when to come back, for this tenant alone", async () => {
  const limits = { tokensPerMinute: 60 };
  const tenants = [makeTenant("acme", { limits }), makeTenant("other", { limits })];
  const { post } = testServer(() => saying("x"), { tenants });
  const ask = (name: string) => post("/v1/completions", { model: "support", prompt: Array(40).fill(5) }, bearer(name));
  expect((await ask("acme")).status).toBe(200);
  const refused = await ask("acme");
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(19);
  expect((await json(refused)).error).toMatchObject({ code: "rate_limit_exceeded", type: "rate_limit_error" });
  expect((await ask("other")).status).toBe(200);
});

test("the engine is told how a tenant stands beside others", async () => {
  const limits = { running: 2, queued: 5 };
  const { post, engine } = testServer(() => saying("x"), {
    tenants: [makeTenant("acme", { group: "law", priority: "low", weight: 3, limits }), makeTenant("other")],
  });
  for (const name of ["acme", "other"])
    await post("/v1/completions", { model: "support", prompt: "hello" }, bearer(name));
  expect(engine.requests.map(({ tenant, policy }) => ({ tenant, ...policy }))).toEqual([
    { tenant: "acme", group: "law", priority: "low", weight: 3, running: 2, queued: 5 },
    { tenant: "other", group: null, priority: "normal", weight: 1, running: null, queued: null },
  ]);
});

test("operators have kept prompts forgotten, of a group where the tenant is in one", async () => {
  const tenants = [makeTenant("acme", { group: "law" }), makeTenant("ops", { operator: true })];
  const { app, engine } = testServer(() => saying("x"), { tenants });
  const forget = (tenant: string, by: string) =>
    app.request(`/admin/prefixes/${tenant}`, { method: "DELETE", ...bearer(by) });
  expect((await forget("acme", "acme")).status).toBe(401);
  expect(await json(forget("acme", "ops"))).toEqual({ tenant: "acme", group: "law", bytes: 7 });
  expect(await json(forget("gone", "ops"))).toEqual({ tenant: "gone", group: null, bytes: 7 });
  expect(engine.forgotten).toEqual([{ group: "law" }, { tenant: "gone" }]);
});
