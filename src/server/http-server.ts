import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import { openFileLimit } from "../support/open-file-limit.ts";
import type { ServerLimits } from "./limits.ts";

/** Of the files that a process may open; the rest is for weights, which are read while requests wait for them. */
const SOCKETS_SHARE = 0.75;

export type ConnectionLimits = Pick<
  ServerLimits,
  "connections" | "headersMs" | "keepAliveMs" | "requestMs" | "stalledMs"
>;

/** An HTTP server that gives up on clients who hold a connection and do nothing with it. It does not listen yet. */
export function createHttpServer(listener: RequestListener, limits: ConnectionLimits): Server {
  const { headersMs: headersTimeout, requestMs: requestTimeout, keepAliveMs: keepAliveTimeout } = limits;
  const server = createServer({ headersTimeout, requestTimeout, keepAliveTimeout }, (incoming, outgoing) => {
    // Silence while an answer is computed is no fault of the client; bytes that it does not take are.
    outgoing.setTimeout(limits.stalledMs, () => {
      if (incoming.socket.writableLength > 0) incoming.socket.destroy();
    });
    listener(incoming, outgoing);
  });
  server.maxConnections = Math.min(limits.connections, Math.floor((openFileLimit() ?? Infinity) * SOCKETS_SHARE));
  return server;
}
