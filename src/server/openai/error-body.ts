import { BlockllmError } from "../../support/errors.ts";
import { InvalidRequest } from "./invalid-request.ts";
import type { WireError } from "./wire.ts";

export interface ErrorReply {
  status: number;
  body: WireError;
}

/** Any error as OpenAI writes errors. What is no BlockllmError is our bug: its text stays in the server's log. */
export function toErrorReply(error: unknown): ErrorReply {
  if (!(error instanceof BlockllmError)) {
    return reply(500, { message: "the server failed; its log says why", param: null, code: "internal_error" });
  }
  const message = error.hint === undefined ? error.message : `${endSentence(error.message)} ${error.hint}`;
  const param = error instanceof InvalidRequest ? error.param : null;
  return reply(error.status, { message, param, code: error.code });
}

/** The same with its status and the headers that belong to it. */
export function errorResponse(error: unknown, headers: Record<string, string> = {}): Response {
  const { status, body } = toErrorReply(error);
  const retryAfter = error instanceof BlockllmError ? error.retryAfterSeconds : undefined;
  return Response.json(body, {
    status,
    headers: {
      ...headers,
      ...STATUS_HEADERS[status],
      ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }),
    },
  });
}

/**
 * RFC 9110: a 401 names its scheme; 429 and 503 say when to come back, in seconds. The official client tries again after a
 * 504 unless it is told not to: the time is over.
 */
const STATUS_HEADERS: Record<number, Record<string, string>> = {
  401: { "www-authenticate": "Bearer" },
  429: { "retry-after": "1" },
  503: { "retry-after": "1" },
  504: { "x-should-retry": "false" },
};

/**
 * Worth a line of the log. 503 is the server's decision, draining or short of memory, unless a device was lost; 504 the
 * request's own limit.
 */
export function isOurFault(error: unknown): boolean {
  const { status, body } = toErrorReply(error);
  if (body.error.code === "device_lost") return true;
  return status >= 500 && status !== 503 && status !== 504;
}

/** Seen by nobody but the metrics, as status 499. */
export function clientGone(): BlockllmError {
  return new BlockllmError("interrupted", "the client has closed the connection");
}

function reply(
  status: number,
  { message, param, code }: { message: string; param: string | null; code: string },
): ErrorReply {
  return { status, body: { error: { message, type: errorType(status), param, code } } };
}

/** https://platform.openai.com/docs/guides/error-codes */
function errorType(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

function endSentence(message: string): string {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
