import { within } from "./within.ts";

/** Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html */

export const SSE_HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // nginx holds responses back by default.
  "x-accel-buffering": "no",
};

export function dataFrame(data: object | "[DONE]"): string {
  return `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;
}

/** A comment: readers skip it, but proxies see that the stream lives. */
export const HEARTBEAT_FRAME = ": keep-alive\n\n";

export interface SseOptions {
  heartbeatMs: number;
  /** The client has gone. It must make a waiting `frames.next()` settle, or the frames' source is never let go. */
  onGone: () => void;
}

/**
 * Frames as a response body. A frame is asked for only when the client has taken the ones before (backpressure); while
 * none comes, a heartbeat goes out every `heartbeatMs`.
 */
export function sseBody(frames: AsyncGenerator<string, void>, options: SseOptions): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let pending: Promise<IteratorResult<string, void>> | null = null;
  let gone = false;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        pending ??= nextFrame(frames);
        const result = await within(pending, options.heartbeatMs);
        if (gone) return;
        if (result === "late") return controller.enqueue(encoder.encode(HEARTBEAT_FRAME));
        pending = null;
        if (result.done) controller.close();
        else controller.enqueue(encoder.encode(result.value));
      },
      async cancel() {
        gone = true;
        options.onGone();
        await frames.return();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Handled already, in case the client leaves while it is awaited and nobody asks for the outcome. */
function nextFrame(frames: AsyncGenerator<string, void>): Promise<IteratorResult<string, void>> {
  const next = frames.next();
  next.catch(() => {});
  return next;
}
