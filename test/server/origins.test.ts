import { expect, test } from "vitest";
import { json, saying, testServer } from "./scripted-engine.ts";
import { makeTenant } from "./tenants/make-tenant.ts";

const PAGE = "https://page.example";
const BODY = { model: "support", prompt: "hello" };
const from = (origin: string): RequestInit => ({ headers: { origin } });

test("a page that nobody allowed cannot spend the time of a server without keys", async () => {
  const { post, app, engine } = testServer(() => saying("x"));
  const refused = await post("/v1/completions", BODY, from(PAGE));
  expect(refused.status).toBe(403);
  expect((await json(refused)).error).toMatchObject({ code: "origin_not_allowed" });
  expect((await app.request("/v1/models", from("null"))).status).toBe(403);
  expect(engine.requests).toEqual([]);
  expect((await post("/v1/completions", BODY)).status).toBe(200);
});

test("an allowed page may, and may read what came of it; others may not", async () => {
  const { app, post } = testServer(() => saying("x"), { cors: [PAGE] });
  const answer = await post("/v1/completions", BODY, from(PAGE));
  expect(answer.status).toBe(200);
  expect(answer.headers.get("access-control-allow-origin")).toBe(PAGE);
  expect(answer.headers.get("access-control-expose-headers")).toContain("x-request-id");
  expect((await post("/v1/completions", BODY, from("https://other.example"))).status).toBe(403);
  const asked = await app.request("/v1/chat/completions", { method: "OPTIONS", ...from(PAGE) });
  expect(asked.status).toBe(204);
  expect(asked.headers.get("access-control-allow-methods")).toContain("POST");
  expect(asked.headers.get("access-control-allow-headers")).toContain("authorization");
});

test("pages of all origins, where the operator says so; errors can be read too", async () => {
  const { post } = testServer(() => saying("x"), { cors: ["*"] });
  const wrong = await post("/v1/completions", { ...BODY, n: 0 }, from(PAGE));
  expect(wrong.status).toBe(400);
  expect(wrong.headers.get("access-control-allow-origin")).toBe("*");
});

test("where there are keys, a page without one gets nowhere, and asking what is allowed wants none", async () => {
  const { app, post } = testServer(() => saying("x"), { cors: [PAGE], tenants: [makeTenant("acme")] });
  expect((await post("/v1/completions", BODY, from(PAGE))).status).toBe(401);
  expect((await app.request("/v1/completions", { method: "OPTIONS", ...from(PAGE) })).status).toBe(204);
});

test("OPTIONS says what a path takes", async () => {
  const { app } = testServer(() => saying("x"));
  const response = await app.request("/v1/models", { method: "OPTIONS" });
  expect([response.status, response.headers.get("allow")]).toEqual([204, "GET, HEAD"]);
  expect((await app.request("/v1/models", { method: "HEAD" })).status).toBe(200);
});

test("every response has an id of its own, errors too, and the log says it", async () => {
  const lines: string[] = [];
  const log = { info: () => {}, error: (message: string) => void lines.push(message) };
  const { app, post, engine } = testServer(() => saying("x"), { log });
  expect((await post("/v1/completions", BODY)).headers.get("x-request-id")).toBe("req_1");
  expect((await app.request("/nothing")).headers.get("x-request-id")).toBe("req_1");
  engine.submit = () => {
    throw new Error("broken");
  };
  await post("/v1/completions", BODY);
  expect(lines).toEqual(["req_1 POST /v1/completions"]);
});
