import { describe, expect, it } from "vitest";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatNumber,
  formatPercent,
  shortDigest,
} from "../../../src/cli/output/format.ts";

describe("format", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [999_499, "999 kB"],
    [999_600, "1.00 MB"],
    [1_494_348, "1.49 MB"],
    [540e6, "540 MB"],
    [2.5e15, "2500 TB"],
  ])("%d bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    [12.4, "12 ms"],
    [1500, "1.5 s"],
    [61_000, "1 min 1 s"],
    [119_900, "2 min 0 s"],
  ])("%d milliseconds are %s", (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });

  it("writes shares, counts, digests and small numbers", () => {
    expect(formatPercent(0.6667)).toBe("66.7 %");
    expect(formatCount(1, "model")).toBe("1 model");
    expect(formatCount(9, "model")).toBe("9 models");
    expect(shortDigest(`sha256:${"ab".repeat(32)}`)).toBe("abababababab");
    expect(formatNumber(0)).toBe("0");
    expect(formatNumber(0.00001234)).toBe("1.23e-5");
    expect(formatNumber(2.34567)).toBe("2.346");
  });
});
