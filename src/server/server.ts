import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { systemClock } from "../support/clock.ts";
import { BlockllmError } from "../support/errors.ts";
import { SILENT_LOG } from "../support/log.ts";
import type { Log } from "../support/log.ts";
import type { TextModel } from "../text/text-model.ts";
import type { Engine } from "./served-engine.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import type { ServerLimits } from "./limits.ts";
import { createMetrics } from "./metrics.ts";
import { createHttpServer } from "./http-server.ts";
import { createApp } from "./routes.ts";
import { RunningRequests } from "./running-requests.ts";
import type { Service } from "./service.ts";
import { within } from "./within.ts";
import type { Tenant } from "./tenants/tenant.ts";
import { TenantDirectory } from "./tenants/tenant-directory.ts";
import { TokenRates } from "./tenants/token-rates.ts";

/** Milliseconds between looks for connections that have become idle while the server closes. */
const SWEEP_MS = 20;

export interface ServerOptions {
  engine: Engine;
  /** By model name; a model without a tokenizer is left out and takes token ids only. */
  texts: ReadonlyMap<string, TextModel>;
  /** Has the engine serve these models of its repository from now on, and gives their texts. Left out: it cannot. */
  changeModels?: (names: readonly string[] | "all") => Promise<ReadonlyMap<string, TextModel>>;
  host: string;
  /** 0: any free port. */
  port: number;
  /** Who may ask (tenants/tenants-file.ts reads them). Left out: everybody who reaches the server. */
  tenants?: readonly Tenant[];
  /** Web pages that may use it, by origin; "*": all. Left out: none. */
  cors?: readonly string[];
  limits?: Partial<ServerLimits>;
  log?: Log;
}

export interface RunningServer {
  /** `http://host:port` */
  url: string;
  /**
   * From the next request on. Running ones end as they began; prompts kept of tenants and groups that are gone are given
   * up. A server without tenants cannot be given some.
   */
  replaceTenants(tenants: readonly Tenant[]): void;
  /** Serves these from the repository as it now is. Running requests end as they began. Throws what serving them throws. */
  changeModels(names: readonly string[] | "all"): Promise<void>;
  /**
   * Takes no new requests (503 `server_draining`), lets running ones finish for `limits.drainMs`, ends the rest, then
   * closes the port. The engine stays open: it is the caller's. Calling it again waits for the same end.
   */
  close(): Promise<void>;
}

/** Serves the engine's models over HTTP. @throws `address_in_use`; `usage` for an address that cannot be listened on */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const service = createService(options);
  const app = createApp(service);
  // Replacing the global Request and Response would change them for the whole process.
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createHttpServer((incoming, outgoing) => void listener(incoming, outgoing), service.limits);
  await listen(server, options);
  let closing: Promise<void> | null = null;
  return {
    url: formatUrl(server),
    replaceTenants: (tenants) => replaceTenants(service, tenants),
    changeModels: async (names) => service.changeModels(() => names),
    close: () => (closing ??= closeServer(server, service)),
  };
}

export function createService(options: Omit<ServerOptions, "host" | "port">): Service {
  const { engine } = options;
  const texts = new Map(options.texts);
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  return {
    engine,
    texts,
    changeModels: oneByOne(async (choose: (served: readonly string[]) => readonly string[] | "all") => {
      if (!options.changeModels) throw new BlockllmError("usage", "this server's models cannot be changed");
      const next = await options.changeModels(choose(engine.models.map(({ name }) => name)));
      texts.clear();
      for (const [name, text] of next) texts.set(name, text);
    }),
    tenants: new TenantDirectory(options.tenants ?? null),
    rates: new TokenRates(),
    cors: options.cors ?? [],
    limits,
    metrics: createMetrics(engine, limits.metricPairs),
    running: new RunningRequests(),
    log: options.log ?? SILENT_LOG,
    clock: systemClock,
    now: () => Math.floor(Date.now() / 1000),
    newId: () => randomBytes(12).toString("hex"),
  };
}

function replaceTenants({ engine, tenants, log }: Service, next: readonly Tenant[]): void {
  const before = tenants.prefixOwners();
  tenants.replace(next);
  const after = tenants.prefixOwners();
  for (const [label, owner] of before) {
    if (after.has(label)) continue;
    engine.forgetPrefixes(owner).catch((error: unknown) => log.error("kept prompts could not be given up", error));
  }
}

/** A call waits until those before it are done, however they ended. */
function oneByOne<Input>(work: (input: Input) => Promise<void>): (input: Input) => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return (input) => {
    const done = last.then(async () => work(input));
    last = done.catch(() => {});
    return done;
  };
}

function listen(server: Server, { host, port }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => reject(cannotListen(cause, { host, port })));
    server.listen(port, host, resolve);
  });
}

function cannotListen(
  cause: NodeJS.ErrnoException,
  { host, port }: Pick<ServerOptions, "host" | "port">,
): BlockllmError {
  if (cause.code === "EADDRINUSE") {
    const hint = `Give another one: --port ${port + 1}`;
    return new BlockllmError("address_in_use", `another process listens on ${host}:${port}`, { hint, cause });
  }
  // EACCES: a port below 1024; EADDRNOTAVAIL, ENOTFOUND: a host that is not this machine.
  const hint = "Give an address of this machine and a port that this user may open: --host 127.0.0.1 --port 8080";
  return new BlockllmError("usage", `cannot listen on ${host}:${port}: ${cause.message}`, { hint, cause });
}

function formatUrl(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server listens on no port");
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return `http://${host}:${address.port}`;
}

async function closeServer(server: Server, { running, limits }: Service): Promise<void> {
  await running.drain(limits.drainMs);
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  // A connection whose last answer has just been read is kept alive by the client: it counts as open until it is idle.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  if ((await within(closed, limits.flushMs)) === "late") server.closeAllConnections();
  await closed;
  clearInterval(sweep);
}
