import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { Tenant } from "../../src/server/tenants/tenant.ts";
import { desk, json, saying, testServer } from "./scripted-engine.ts";

const TENANTS = [tenant("boss", true), tenant("acme", false)];
const BOSS = { headers: { authorization: "Bearer key-of-boss" } };

function tenant(name: string, operator: boolean): Tenant {
  const sha256 = createHash("sha256").update(`key-of-${name}`).digest("hex");
  return {
    name,
    keys: [{ sha256, ends: null }],
    models: null,
    group: null,
    operator,
    priority: "normal",
    weight: 1,
    limits: { tokensPerMinute: null, maxTokens: null, running: null, queued: null },
  };
}

function serverThatChanges() {
  const asked: (readonly string[] | "all")[] = [];
  const server = testServer(() => saying("x"), {
    tenants: TENANTS,
    changeModels: async (names) => {
      asked.push(names);
      const [support] = server.engine.models;
      server.engine.models.splice(0, Infinity, ...[names].flat().map((name) => ({ ...support!, name })));
      return new Map([["late", desk]]);
    },
  });
  return { ...server, asked };
}

test("operators add, replace and take away models; both lists change together", async () => {
  const { app, asked, service } = serverThatChanges();
  const post = (model: string) =>
    app.request("/admin/models", { method: "POST", body: JSON.stringify({ model }), ...BOSS });
  expect((await json(await post("late"))).models.map(({ name }: { name: string }) => name)).toEqual([
    "support",
    "legal",
    "bare",
    "late",
  ]);
  expect([...service.texts.keys()]).toEqual(["late"]);
  await post("support:latest");
  const removed = await app.request("/admin/models/legal", { method: "DELETE", ...BOSS });
  expect(removed.status).toBe(200);
  expect(asked.slice(1)).toEqual([
    ["legal", "bare", "late", "support:latest"],
    ["bare", "late", "support:latest"],
  ]);
  const listed = await json(app.request("/admin/models", BOSS));
  expect(listed.models[0]).toMatchObject({ name: "bare", max_model_len: 64, bound_by: "model" });
});

test.each<[string, RequestInit, string, number, string]>([
  ["a tenant", { headers: { authorization: "Bearer key-of-acme" } }, "/admin/models", 401, "invalid_api_key"],
  ["nobody", {}, "/admin/models", 401, "invalid_api_key"],
  ["a model that is not served", { method: "DELETE", ...BOSS }, "/admin/models/none", 404, "model_not_found"],
  ["a body without a model", { method: "POST", body: "{}", ...BOSS }, "/admin/models", 400, "request_invalid"],
  ["another method", { method: "PUT", ...BOSS }, "/admin/models", 405, "method_not_allowed"],
])("refuses %s", async (_, init, path, status, code) => {
  const { app, asked } = serverThatChanges();
  const response = await app.request(path, init);
  expect(response.status).toBe(status);
  expect((await json(response)).error.code).toBe(code);
  expect(asked).toEqual([]);
});

test("a server without tenants has no admin paths", async () => {
  const { app } = testServer(() => saying("x"));
  const response = await app.request("/admin/models");
  expect([response.status, (await json(response)).error.code]).toEqual([404, "route_not_found"]);
});
