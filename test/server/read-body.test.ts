import { expect, test } from "vitest";
import { readBody } from "../../src/server/read-body.ts";

/** A body of so many pieces of 100 bytes, and how many of them were read. */
function sent(pieces: number, headers: Record<string, string> = {}) {
  const read = { pieces: 0 };
  const body = new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        if (read.pieces === pieces) return controller.close();
        read.pieces++;
        controller.enqueue(new Uint8Array(100).fill(120));
      },
    },
    { highWaterMark: 0 },
  );
  const init = { method: "POST", body, headers, duplex: "half" as const };
  return { request: new Request("http://server.example", init), read };
}

test("a body of the limit is read", async () => {
  expect(await readBody(sent(10).request, 1000)).toBe("x".repeat(1000));
});

test("one that is too long is read to its end before it is refused: who is still sending would not see why", async () => {
  const { request, read } = sent(30, { "content-length": "3000" });
  await expect(readBody(request, 1000)).rejects.toMatchObject({
    code: "request_too_large",
    message: expect.stringContaining("3000 bytes"),
  });
  expect(read.pieces).toBe(30);
});

test("one without an end is not, nor one that announces much too much", async () => {
  const endless = sent(Infinity);
  await expect(readBody(endless.request, 1000)).rejects.toMatchObject({ code: "request_too_large" });
  expect(endless.read.pieces).toBe(41);
  const huge = sent(Infinity, { "content-length": "5000" });
  await expect(readBody(huge.request, 1000)).rejects.toMatchObject({ code: "request_too_large" });
  expect(huge.read.pieces).toBe(0);
});

test("a packed one is refused as such, not as broken JSON", async () => {
  await expect(readBody(sent(1, { "content-encoding": "gzip" }).request, 1000)).rejects.toMatchObject({
    code: "request_invalid",
    message: expect.stringContaining("gzip"),
  });
  expect(await readBody(sent(1, { "content-encoding": "identity" }).request, 1000)).toHaveLength(100);
});
