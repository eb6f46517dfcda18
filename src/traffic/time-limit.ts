/**
 * A signal that aborts with `signal` or after `seconds`; `clear` when what it limits is over. Written out because
 * AbortSignal.any over AbortSignal.timeout may be collected before its time (Node 20).
 */
export function timeLimit(signal: AbortSignal, seconds: number): { signal: AbortSignal; clear: () => void } {
  const limit = new AbortController();
  const stop = (): void => limit.abort(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  const timer = setTimeout(() => limit.abort(new Error(`no end after ${seconds} s`)), seconds * 1000);
  const clear = (): void => {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  };
  return { signal: limit.signal, clear };
}
