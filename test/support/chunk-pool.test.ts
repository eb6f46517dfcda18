import { describe, expect, it } from "vitest";

import { recycleChunk, takeChunk } from "../../src/support/chunk-pool.ts";

describe("the chunk pool", () => {
  it("lends what was given back, at the length that is asked for", () => {
    const first = takeChunk(100_000);
    expect(first.byteLength).toBe(100_000);
    recycleChunk(first);
    const second = takeChunk(80_000);
    expect(second.buffer).toBe(first.buffer);
    expect(second.byteLength).toBe(80_000);
  });

  it("never lends one buffer to two", () => {
    const chunk = takeChunk(1 << 20);
    recycleChunk(chunk);
    recycleChunk(chunk);
    expect(takeChunk(1 << 20).buffer).not.toBe(takeChunk(1 << 20).buffer);
  });

  it("does not take what is not its own", () => {
    const foreign = new Uint8Array(1 << 20);
    recycleChunk(foreign);
    expect(takeChunk(1 << 20).buffer).not.toBe(foreign.buffer);
  });

  it("keeps only so much", () => {
    const chunks = Array.from({ length: 40 }, () => takeChunk(1 << 23));
    const buffers = new Set(chunks.map(({ buffer }) => buffer));
    chunks.forEach(recycleChunk);
    const again = Array.from({ length: 40 }, () => takeChunk(1 << 23));
    expect(again.filter(({ buffer }) => buffers.has(buffer)).length).toBeLessThanOrEqual(8);
  });
});
