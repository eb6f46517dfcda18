import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, expect, test } from "vitest";
import { startServer } from "../../src/server/server.ts";
import type { RunningServer, ServerOptions } from "../../src/server/server.ts";
import { desk, json, saying, sayingWithoutEnd, ScriptedEngine } from "./scripted-engine.ts";
import type { Script } from "./scripted-engine.ts";
import { makeTenant } from "./tenants/make-tenant.ts";

const HELLO = { model: "support", messages: [{ role: "user", content: "hello" }] };
const open: RunningServer[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

test("an address in use is said with the number to try next", async () => {
  const { server } = await start(() => saying("x"));
  const port = Number(new URL(server.url).port);
  await expect(start(() => saying("x"), { port })).rejects.toMatchObject({
    code: "address_in_use",
    message: `another process listens on 127.0.0.1:${port}`,
    hint: `Give another one: --port ${port + 1}`,
  });
});

test("prompts kept of tenants and groups that are gone are given up", async () => {
  const tenants = [makeTenant("a", { group: "law" }), makeTenant("b", { group: "law" }), makeTenant("c")];
  const { server, engine } = await start(() => saying("x"), { tenants });
  server.replaceTenants([tenants[0]!, makeTenant("d")]);
  expect(engine.forgotten).toEqual([{ tenant: "c" }]);
  server.replaceTenants([]);
  expect(engine.forgotten.slice(1)).toEqual([{ group: "law" }, { tenant: "d" }]);
});

test("an address of another machine is the user's mistake", async () => {
  await expect(start(() => saying("x"), { host: "192.0.2.1" })).rejects.toMatchObject({
    code: "usage",
    message: expect.stringContaining("cannot listen on 192.0.2.1:0"),
  });
});

test("a client that hangs up in the middle of a stream cancels every choice", async () => {
  const { server, engine } = await start(() => sayingWithoutEnd("eva holds"));
  const leaving = new AbortController();
  const response = await ask(server, { ...HELLO, stream: true, n: 2 }, leaving.signal);
  await response.body!.getReader().read();
  leaving.abort();
  await until(() => engine.cancelled > 0);
  expect(engine.cancelled).toBe(2);
});

test("a client that hangs up while it waits for a whole answer cancels every choice", async () => {
  const { server, engine } = await start(() => sayingWithoutEnd("eva holds"));
  const leaving = new AbortController();
  const response = ask(server, { ...HELLO, n: 3 }, leaving.signal);
  await until(() => engine.requests.length === 3);
  leaving.abort();
  await expect(response).rejects.toThrow("aborted");
  await until(() => engine.cancelled === 3);
});

test("a client that hangs up in the middle of its request's body costs nothing", async () => {
  const errors: unknown[] = [];
  const log = { info: () => {}, error: (message: string) => errors.push(message) };
  const { server, engine } = await start(() => saying("x"), { log });
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.write("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{");
  await new Promise((resolve) => setTimeout(resolve, 20));
  socket.destroy();
  await once(socket, "close");
  expect((await ask(server, HELLO)).status).toBe(200);
  expect(engine.requests).toHaveLength(1);
  expect(errors).toEqual([]);
});

test("while draining, running answers finish and new ones are refused", async () => {
  const { server, engine } = await start(() => sayingWithoutEnd("eva"));
  const response = await ask(server, { ...HELLO, stream: true });
  const closed = server.close();
  const refused = await ask(server, HELLO);
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).toBe("1");
  expect(refused.headers.get("connection")).toBe("close");
  expect((await json(refused)).error.code).toBe("server_draining");
  expect((await fetch(`${server.url}/healthz`)).status).toBe(503);
  engine.finishAll();
  const text = await response.text();
  expect(text).toContain('"content":"eva"');
  expect(text).toMatch(/data: \[DONE\]\n\n$/);
  await closed;
  await expect(fetch(server.url)).rejects.toThrow("fetch failed");
});

test("answers that outlast the grace end with a finish reason, streamed or not", async () => {
  const { server, engine } = await start(() => sayingWithoutEnd("eva"), { limits: { drainMs: 30 } });
  const streamed = await ask(server, { ...HELLO, stream: true });
  const whole = ask(server, HELLO);
  await until(() => engine.requests.length === 2);
  await server.close();
  expect((await streamed.text()).match(/"finish_reason":"\w+"/g)).toEqual(['"finish_reason":"length"']);
  expect((await json(whole)).choices[0]).toMatchObject({ finish_reason: "length", message: { content: "eva" } });
});

test("closing twice is closing once", async () => {
  const { server } = await start(() => saying("x"));
  await expect(Promise.all([server.close(), server.close()])).resolves.toHaveLength(2);
});

test("a reader who stops reading does not hold the others up, nor the server's end for ever", async () => {
  const { server } = await start(() => saying("eva holds it . ".repeat(20), "length"), {
    limits: { drainMs: 10, flushMs: 50 },
  });
  await ask(server, { ...HELLO, stream: true, n: 64 });
  expect((await ask(server, HELLO)).status).toBe(200);
  await server.close();
  await expect(fetch(server.url)).rejects.toThrow("fetch failed");
});

test("an IPv6 address is written so that it can be called", async () => {
  const { server } = await start(() => saying("x"), { host: "::1" });
  expect(server.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
});

async function start(script: Script, options: Partial<Omit<ServerOptions, "engine">> = {}) {
  const engine = new ScriptedEngine(script);
  const server = await startServer({
    engine,
    texts: new Map([["support", desk]]),
    host: "127.0.0.1",
    port: 0,
    ...options,
  });
  open.push(server);
  return { server, engine };
}

function ask(server: RunningServer, body: object, signal: AbortSignal | null = null): Promise<Response> {
  return fetch(`${server.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify(body), signal });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
