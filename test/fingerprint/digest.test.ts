import { createHash } from "node:crypto";

import { describe, expect, it } from "vitest";

import {
  digestBytes,
  digestDocument,
  digestFromHex,
  digestHex,
  isDigest,
  startDigest,
} from "../../src/fingerprint/digest.ts";

describe("digests", () => {
  it("is sha256 with its algorithm in front (FIPS 180-4, the message abc)", () => {
    const hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    expect(digestBytes(Buffer.from("abc"))).toBe(`sha256:${hex}`);
    expect(digestHex(digestFromHex(hex))).toBe(hex);
  });

  it("is the same in chunks as at once", () => {
    const running = startDigest();
    running.update(Buffer.from("a"));
    running.update(Buffer.from("bc"));
    expect(running.finish()).toBe(`sha256:${createHash("sha256").update("abc").digest("hex")}`);
  });

  it("knows a digest from what is none", () => {
    expect(isDigest(digestBytes(new Uint8Array(0)))).toBe(true);
    for (const text of [
      "",
      "sha256:",
      `sha256:${"A".repeat(64)}`,
      `sha512:${"a".repeat(64)}`,
      `sha256:${"a".repeat(65)}`,
      `sha256:${"../".repeat(21)}a`,
    ]) {
      expect(isDigest(text)).toBe(false);
    }
    expect(() => digestFromHex("../../etc/passwd")).toThrow("not a sha256");
  });

  it("does not depend on the order in which a document's keys were set", () => {
    expect(digestDocument({ a: 1, b: [{ c: 2, d: 3 }] })).toBe(digestDocument({ b: [{ d: 3, c: 2 }], a: 1 }));
  });
});
