import { engineConfig } from "../engine/engine-config.ts";

/** Bounds on what one client can make the server hold or do, each with its reason. */
export interface ServerLimits {
  /** Bytes of a request body: it is parsed and tokenised on the thread that serves everybody. */
  bodyBytes: number;
  /** Answers of one request, prompts × n: each is a sequence of the engine. */
  choices: number;
  /** Requests that the engine lets wait: no request may need more places than there are. */
  queuePlaces: number;
  /** Connections open at once; fewer where the process may open fewer files. One more is closed at once. */
  connections: number;
  /** Milliseconds in which a request's headers must come, and all of it. */
  headersMs: number;
  requestMs: number;
  /** Milliseconds that an idle connection is kept: longer than proxies keep theirs (60 s), or they reuse it as it closes. */
  keepAliveMs: number;
  /** Milliseconds after which a client that takes nothing of what was written to it is given up. */
  stalledMs: number;
  /** Tenants' models that have metrics of their own, about 60 series each; the rest are counted together. */
  metricPairs: number;
  /** Milliseconds between comment lines on a silent stream, so that proxies keep it open. */
  heartbeatMs: number;
  /** Milliseconds that running answers get to finish when the server closes. */
  drainMs: number;
  /** Milliseconds that a health check waits for a busy engine's answer. */
  healthMs: number;
  /** Milliseconds that clients then get to read the end of their answers. */
  flushMs: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  bodyBytes: 4 * 1024 * 1024,
  choices: 64,
  queuePlaces: engineConfig().maxQueue,
  connections: 8192,
  headersMs: 20_000,
  requestMs: 120_000,
  keepAliveMs: 75_000,
  stalledMs: 60_000,
  metricPairs: 300,
  heartbeatMs: 15_000,
  drainMs: 30_000,
  flushMs: 5_000,
  healthMs: 1_000,
};
