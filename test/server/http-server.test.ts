import { once } from "node:events";
import type { RequestListener, Server } from "node:http";
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { createHttpServer } from "../../src/server/http-server.ts";
import type { ConnectionLimits } from "../../src/server/http-server.ts";
import { DEFAULT_LIMITS } from "../../src/server/limits.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

test("a reader who takes nothing of an answer is given up", async () => {
  const server = await listen((_, outgoing) => outgoing.end(Buffer.alloc(50_000_000)), { stalledMs: 30 });
  const socket = await open(server, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  socket.pause();
  await expect.poll(() => connections(server)).toBe(1);
  await expect.poll(() => connections(server)).toBe(0);
});

test("a reader who waits for an answer, however long, is not", async () => {
  const server = await listen((_, outgoing) => void setTimeout(() => outgoing.end("late"), 120), { stalledMs: 20 });
  const response = await fetch(`http://127.0.0.1:${portOf(server)}/`);
  expect(await response.text()).toBe("late");
});

test("connections beyond the limit are closed at once, and those before are served", async () => {
  const server = await listen((_, outgoing) => outgoing.end("here"), { connections: 2 });
  const first = await open(server, "");
  await open(server, "");
  await expect.poll(() => connections(server)).toBe(2);
  const third = await open(server, "");
  await once(third, "close");
  first.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  const [reply] = (await once(first, "data")) as [Buffer];
  expect(reply.toString()).toMatch(/^HTTP\/1\.1 200/);
});

test("idle connections outlive those that proxies keep, and some files are left for weights", async () => {
  const server = await listen((_, outgoing) => outgoing.end("here"), {});
  const response = await fetch(`http://127.0.0.1:${portOf(server)}/`);
  expect(response.headers.get("keep-alive")).toBe("timeout=75");
  expect(server.maxConnections).toBeLessThanOrEqual(DEFAULT_LIMITS.connections);
});

async function listen(listener: RequestListener, limits: Partial<ConnectionLimits>): Promise<Server> {
  const server = createHttpServer(listener, { ...DEFAULT_LIMITS, ...limits });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function open(server: Server, text: string): Promise<Socket> {
  const socket = connect(portOf(server), "127.0.0.1");
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.write(text);
  return socket;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function connections(server: Server): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  );
}
