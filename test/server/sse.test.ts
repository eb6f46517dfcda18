import { expect, test } from "vitest";
import { dataFrame, HEARTBEAT_FRAME, sseBody } from "../../src/server/sse.ts";

test("a frame is one data line and an empty one, also for text with line breaks", () => {
  expect(dataFrame({ a: "x\ny" })).toBe('data: {"a":"x\\ny"}\n\n');
  expect(dataFrame("[DONE]")).toBe("data: [DONE]\n\n");
});

test("frames come in order; heartbeats fill the silence", async () => {
  const gate = deferred();
  async function* frames() {
    yield "one";
    await gate.opened;
    yield "two";
  }
  const reader = sseBody(frames(), { heartbeatMs: 5, onGone: () => {} }).getReader();
  const next = async () => new TextDecoder().decode((await reader.read()).value);
  expect(await next()).toBe("one");
  expect(await next()).toBe(HEARTBEAT_FRAME);
  gate.open();
  let last = await next();
  while (last === HEARTBEAT_FRAME) last = await next();
  expect(last).toBe("two");
  expect((await reader.read()).done).toBe(true);
});

test("nothing is asked for before the client has taken what there is", async () => {
  let made = 0;
  async function* frames() {
    for (;;) yield `${made++}`;
  }
  const reader = sseBody(frames(), { heartbeatMs: 1000, onGone: () => {} }).getReader();
  await reader.read();
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(made).toBe(1);
  await reader.cancel();
});

test("a client that leaves while the frames wait is told to their source", async () => {
  const gate = deferred();
  let ended = false;
  async function* frames() {
    try {
      yield "one";
      await gate.opened;
      yield "two";
    } finally {
      ended = true;
    }
  }
  const reader = sseBody(frames(), { heartbeatMs: 1000, onGone: gate.open }).getReader();
  await reader.read();
  const waiting = reader.read();
  await reader.cancel();
  expect((await waiting).done).toBe(true);
  expect(ended).toBe(true);
});

function deferred(): { opened: Promise<void>; open: () => void } {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
