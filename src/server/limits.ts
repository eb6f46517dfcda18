/** Bounds on what one client can make the server hold or do, each with its reason. */
export interface ServerLimits {
  /** Bytes of a request body: it is parsed and tokenised on the thread that serves everybody. */
  bodyBytes: number;
  /** Answers of one request, prompts × n: each is a sequence of the engine. */
  choices: number;
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
  heartbeatMs: 15_000,
  drainMs: 30_000,
  flushMs: 5_000,
  healthMs: 1_000,
};
