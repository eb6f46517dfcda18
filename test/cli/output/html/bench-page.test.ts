import { describe, expect, test } from "vitest";
import { renderBenchPage } from "../../../../src/cli/output/html/bench-page.ts";
import { renderLineChart, ticksUpTo } from "../../../../src/cli/output/html/line-chart.ts";
import { printBench } from "../../../../src/cli/output/bench.ts";
import { reportPoint, type Measured } from "../../../../src/traffic/report-point.ts";
import type { BenchReport, PointLoad } from "../../../../src/traffic/report.ts";
import { parseScenario } from "../../../../src/traffic/scenario.ts";
import { summarise } from "../../../../src/traffic/summary.ts";

const HOSTILE = '<img src=x onerror="alert(1)">';
const SIDES = ["blockllm", "per-model"];

function measured(side: string, ended: number[], outcome: Measured["samples"][number]["outcome"]): Measured {
  const samples = ended.map((at, index) => ({
    index,
    model: "a",
    tenant: 0,
    due: 0,
    sent: 0,
    first: at / 2,
    ended: at,
    promptTokens: 3,
    completionTokens: 5,
    refusals: 0,
    retryAfterSeconds: null,
    outcome,
    digest: "d",
  }));
  return {
    side,
    place: 0,
    repeat: 0,
    samples,
    summary: summarise({ samples, seconds: 5, memoryBytes: 1e9, processorSeconds: 2.2 }, {}, null),
  };
}

function report(
  name: string,
  outcome: Measured["samples"][number]["outcome"] = { kind: "finished", reason: "length" },
): BenchReport {
  const scenario = parseScenario(
    {
      name,
      arrivals: { kind: "poisson", rate: [1, 2] },
      prompt: { kind: "fixed", tokens: 3 },
      output: { kind: "fixed", tokens: 5 },
      requests: 3,
      repeats: 1,
    },
    "test",
  );
  const loads: PointLoad[] = [
    { kind: "rate", per_second: 1 },
    { kind: "rate", per_second: 2 },
  ];
  const runs = [measured("blockllm", [1, 2, 3], outcome), measured("per-model", [2, 3, 4.5], outcome)];
  return {
    scenario,
    machine: { cpu: "a cpu", threads: 2, memory_gib: 24, node: "v20", load_average: 0.5 },
    sides: SIDES.map((side) => ({
      name: side,
      about: "about",
      models: ["a"],
      load_seconds: { median: 1, least: 1, most: 1 },
    })),
    saturation: null,
    points: loads.map((load) => reportPoint(load, { measured: runs, sides: SIDES })),
    notes: ["a note"],
  };
}

function page(of: BenchReport): string {
  return renderBenchPage({ ...of, gates: [] }, { madeAt: new Date(0) });
}

describe("the page of bench", () => {
  test("needs nothing else and runs nothing", () => {
    const text = page(report("chat"));
    expect(text).toMatch(/^<!doctype html>/);
    expect(text).not.toMatch(/<script|https?:|src=|@import|url\(/);
    expect(text).toContain("default-src &#39;none&#39;");
  });

  test("shows both sides in curves and numbers", () => {
    const text = page(report("chat"));
    for (const said of [
      "blockllm, p95",
      "per-model, p95",
      "offered load, requests/s",
      "same tokens: 3 of 3",
      "a note",
    ]) {
      expect(text).toContain(said);
    }
    // Two charts of latency by load with four lines each, and two distributions with two.
    expect(text.match(/<polyline/g)).toHaveLength(12);
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("is sound where nobody got an answer", () => {
    const text = page(report("chat", { kind: "refused" }));
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    expect(text).toContain("429 3");
  });

  test("escapes what users and servers say", () => {
    const text = page(report(HOSTILE, { kind: "error", message: HOSTILE }));
    expect(text).not.toContain("<img");
    expect(text).toContain("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;");
  });
});

test("the table has a line per side and one of ratios", () => {
  const lines = printBench(report("chat")).split("\n");
  expect(lines.filter((line) => line.includes("blockllm") && line.includes("1.00 GB"))).toHaveLength(2);
  expect(lines.filter((line) => /ratio .*0\.67/.test(line))).toHaveLength(2);
});

describe("axes", () => {
  test.each([
    [0, [0, 1]],
    [4.2, [0, 1, 2, 3, 4, 5]],
    [1000, [0, 200, 400, 600, 800, 1000]],
    [0.03, [0, 0.01, 0.02, 0.03]],
  ])("up to %d have round ticks", (most, ticks) => {
    expect(ticksUpTo(most)).toEqual(ticks);
  });

  test("a chart keeps its points inside", () => {
    const series = [
      {
        name: "s",
        colour: 0,
        dash: "solid" as const,
        points: [
          [0, 0],
          [7, 93],
        ] as [number, number][],
      },
    ];
    const { text } = renderLineChart({ title: "t", xLabel: "x", yLabel: "y", series, dots: true });
    const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(text)!.map(Number);
    const circles = [...text.matchAll(/cx="([\d.]+)" cy="([\d.]+)"/g)].map((match) => match.slice(1).map(Number));
    expect(circles).toHaveLength(2);
    for (const [x, y] of circles) {
      expect(x).toBeGreaterThan(0);
      expect(x).toBeLessThan(width!);
      expect(y).toBeGreaterThan(0);
      expect(y).toBeLessThan(height!);
    }
  });
});
