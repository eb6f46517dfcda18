/** Runs what it is given, at most `limit` at a time, first come first served. */
export function limitConcurrency(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await work();
    } finally {
      // The slot is handed on, not freed: a newcomer between `resolve` and its wake-up would make one too many.
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}

/**
 * `work` for each item, at most `limit` at a time; results in the order of the items, which are pulled as slots come
 * free. After the first failure the rest is told to stop, and the failure is thrown once all have.
 */
export async function mapConcurrently<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  work: (item: T, signal: AbortSignal) => Promise<R>,
  options: { limit: number; signal?: AbortSignal | undefined },
): Promise<R[]> {
  const failed = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal;
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const results: R[] = [];
  const errors: unknown[] = [];
  let pulled = 0;

  const pullAndWork = async () => {
    while (!signal.aborted) {
      const place = pulled++;
      const next = await iterator.next();
      if (next.done) return;
      results[place] = await work(next.value, signal);
    }
  };
  const lanes = Array.from({ length: options.limit }, () =>
    pullAndWork().catch((error: unknown) => {
      errors.push(error);
      failed.abort(error);
    }),
  );
  await Promise.all(lanes);
  options.signal?.throwIfAborted();
  if (errors.length > 0) throw errors[0];
  return results;
}
