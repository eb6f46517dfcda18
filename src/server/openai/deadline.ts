import { InvalidRequest } from "./invalid-request.ts";

/** Milliseconds that an answer may take. For clients that cannot add a key to the body, or proxies. */
export const DEADLINE_HEADER = "x-blockllm-deadline-ms";

/**
 * When a request is of no more use, ms since 1970; null where it does not say. The sooner of the key `timeout` (seconds)
 * and the header counts, from `arrived` on.
 */
export function deadlineOf(
  headers: Headers,
  { timeout, arrived }: { timeout: number | null | undefined; arrived: number },
): number | null {
  const allowed = [headerMilliseconds(headers), (timeout ?? Infinity) * 1000];
  const soonest = Math.min(...allowed);
  return soonest === Infinity ? null : arrived + soonest;
}

function headerMilliseconds(headers: Headers): number {
  const value = headers.get(DEADLINE_HEADER);
  if (value === null) return Infinity;
  const milliseconds = Number(value);
  if (/^\d+$/.test(value) && milliseconds > 0) return milliseconds;
  throw new InvalidRequest(`the header ${DEADLINE_HEADER} is "${value}": a whole number above 0 is expected`, null);
}
