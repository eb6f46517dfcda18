import { describe, expect, it } from "vitest";
import {
  byteCount,
  commaSeparated,
  duration,
  nameList,
  oneOf,
  originList,
  realNumber,
  tokenIds,
  wholeNumber,
} from "../../src/cli/parse-values.ts";

describe("option values", () => {
  it("reads numbers within their limits and names value and limit when it cannot", () => {
    expect(wholeNumber("--max-tokens", 1)("14")).toBe(14);
    expect(realNumber("--top-p", 0, 1)("0.9")).toBe(0.9);
    expect(() => wholeNumber("--max-tokens", 1)("0")).toThrow(
      '--max-tokens is "0"; it must be a whole number of at least 1',
    );
    expect(() => wholeNumber("--max-tokens", 1)("1e3")).toThrow(/whole number/);
    expect(() => wholeNumber("--port", 0, 65_535)("70000")).toThrow("it must be a whole number from 0 to 65535");
    expect(() => realNumber("--top-p", 0, 1)("1.1")).toThrow(/from 0 to 1/);
    expect(() => realNumber("--top-p", 0, 1)("")).toThrow(/from 0 to 1/);
  });

  it("takes one of some words", () => {
    expect(oneOf("--granularity", ["module", "layer"])("layer")).toBe("layer");
    expect(() => oneOf("--granularity", ["module", "layer"])("x")).toThrow("it must be one of module, layer");
  });

  it("reads token ids and lists", () => {
    expect(tokenIds("--tokens")("1, 17,45")).toEqual([1, 17, 45]);
    expect(() => tokenIds("--tokens")("1,,2")).toThrow(/commas between/);
    expect(() => tokenIds("--tokens")("-1")).toThrow(/commas between/);
    expect(commaSeparated("support, legal,")).toEqual(["support", "legal"]);
  });

  it("takes no list of nothing, as a variable gives that is not set", () => {
    expect(nameList("--models")("support, legal,")).toEqual(["support", "legal"]);
    expect(() => nameList("--models")("")).toThrow('--models is ""; it must be names with commas between them');
  });

  it("takes origins as browsers send them", () => {
    const said = ["https://page.example", "http://localhost:5173", "chrome-extension://abc", "null", "*"];
    expect(originList("--cors")(said.join())).toEqual(said);
    for (const wrong of ["", "page.example", "https://page.example/", "https://page.example/app"])
      expect(() => originList("--cors")(wrong), wrong).toThrow(/it must be origins/);
  });

  it.each([
    ["8GB", 8e9],
    ["512 MiB", 512 * 2 ** 20],
    ["1.5gib", 1.5 * 2 ** 30],
    ["1e9", 1e9],
    ["100", 100],
  ])("reads %s as %d bytes", (text, bytes) => {
    expect(byteCount("--memory")(text)).toBe(bytes);
  });

  it.each([
    ["0", 0],
    ["90s", 90_000],
    ["1.5h", 5_400_000],
    ["7 d", 604_800_000],
  ])("reads %s as %d milliseconds", (text, milliseconds) => {
    expect(duration("--grace")(text)).toBe(milliseconds);
  });

  it.each(["", "15", "1 year", "-1s"])("refuses %j as a duration", (text) => {
    expect(() => duration("--grace")(text)).toThrow(/a duration like 90s/);
  });

  it.each(["", "8 XB", "lots", "0", "-1GB", "1.2.3MB"])("refuses %j as a size", (text) => {
    expect(() => byteCount("--memory")(text)).toThrow(/a size like 8GB/);
  });
});
