import { assert, jsonValue, property } from "fast-check";
import { describe, expect, it } from "vitest";

import { canonicalJson } from "../../src/fingerprint/canonical-json.ts";

const text = (value: object) => new TextDecoder().decode(canonicalJson(value));

describe("canonicalJson", () => {
  it("writes RFC 8785's example of number and key order", () => {
    const value = {
      numbers: [333333333.3333333, 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      literals: [null, true, false],
    };
    expect(text(value)).toBe('{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}');
    expect(text({ "\u20ac": 1, "\r": 2, "\ud83d\ude00": 3, "1": 4 })).toBe('{"\\r":2,"1":4,"€":1,"😀":3}');
  });

  it("leaves undefined members out", () => {
    expect(text({ a: undefined, b: 1 })).toBe('{"b":1}');
  });

  it("refuses what JSON cannot hold, as a digest over a stand-in would be of something else", () => {
    for (const value of [
      { a: Number.NaN },
      { a: Infinity },
      { a: new Map() },
      { a: 1n },
      { a: [undefined] },
      { a: () => 1 },
    ]) {
      expect(() => canonicalJson(value)).toThrow(/document/);
    }
  });

  it("parses back to the same value, whatever it was", () => {
    assert(property(jsonValue(), keepsItsValue));
  });
});

function keepsItsValue(value: unknown): void {
  expect(JSON.parse(text({ value }))).toEqual(JSON.parse(JSON.stringify({ value })));
}
