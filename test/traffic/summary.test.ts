import { describe, expect, test } from "vitest";
import { reportPoint, type Measured } from "../../src/traffic/report-point.ts";
import type { Sample } from "../../src/traffic/sample.ts";
import { summarise } from "../../src/traffic/summary.ts";

function sample(more: Partial<Sample> = {}): Sample {
  return {
    index: 0,
    model: "a",
    tenant: 0,
    due: 0,
    sent: 0,
    first: 1,
    ended: 2,
    promptTokens: 5,
    completionTokens: 11,
    refusals: 0,
    retryAfterSeconds: null,
    outcome: { kind: "finished", reason: "length" },
    digest: "d",
    ...more,
  };
}

function summaryOf(samples: Sample[], seconds: number, goals = {}) {
  return summarise({ samples, seconds, memoryBytes: null, processorSeconds: 2.2 }, goals, null);
}

describe("a run in numbers", () => {
  test("latency counts from when a request was due, not from when it could be sent", () => {
    const { latency_ms, first_token_ms, token_ms, sent_late_ms } = summaryOf(
      [sample({ due: 1, sent: 4, first: 5, ended: 7 })],
      10,
    );
    expect(latency_ms).toEqual({ mean: 6000, p50: 6000, p95: 6000, p99: 6000, max: 6000 });
    expect(first_token_ms?.p50).toBe(4000);
    expect(token_ms?.p50).toBe(200);
    expect(sent_late_ms).toBe(3000);
  });

  test("rates count what happened while requests were sent", () => {
    const during = sample({ first: 0.5, ended: 2 });
    const afterwards = sample({ first: 3, ended: 5 });
    const later = sample({ first: 9, ended: 12 });
    const summary = summaryOf([during, afterwards, later], 4);
    expect(summary.requests_per_second).toBe(1 / 4);
    expect(summary.offered_per_second).toBe(3 / 4);
    expect(summary.tokens_per_second).toBe((11 + (1 + 10 / 2)) / 4);
  });

  test("every request is counted under what became of it", () => {
    const summary = summaryOf(
      [
        sample(),
        sample({ outcome: { kind: "finished", reason: "stop" } }),
        sample({ outcome: { kind: "refused" }, refusals: 2, retryAfterSeconds: 3, first: null, completionTokens: 0 }),
        sample({ refusals: 1, retryAfterSeconds: 1 }),
        sample({ outcome: { kind: "timeout" }, first: null }),
        sample({ outcome: { kind: "error", message: "boom" }, first: null }),
        sample({ outcome: { kind: "error", message: "boom" }, first: null }),
      ],
      10,
    );
    expect(summary).toMatchObject({
      requests: 7,
      finish_reasons: { length: 2, stop: 1 },
      refused: 1,
      told_to_wait: 2,
      retry_after_seconds: 3,
      timeouts: 1,
      errors: { boom: 2 },
    });
    expect(summary.latency_curve_ms).toHaveLength(51);
  });

  test("good is who kept the goals", () => {
    const samples = [sample(), sample({ first: 1.9, ended: 2 }), sample({ first: 0.1, ended: 3 })];
    expect(summaryOf(samples, 10).good_per_second).toBeCloseTo(0.3);
    expect(summaryOf(samples, 10, { first_token_ms: 1000 }).good_per_second).toBeCloseTo(0.2);
    expect(summaryOf(samples, 10, { first_token_ms: 1000, token_ms: 150 }).good_per_second).toBeCloseTo(0.1);
  });

  test("processor time is shared out over all tokens", () => {
    expect(summaryOf([sample(), sample()], 10).processor_ms_per_token).toBeCloseTo(100);
    expect(summaryOf([], 10).processor_ms_per_token).toBeNull();
  });

  test("of no requests it has no latencies", () => {
    expect(summaryOf([], 1)).toMatchObject({
      latency_ms: null,
      latency_curve_ms: [],
      requests: 0,
      retry_after_seconds: null,
    });
  });
});

describe("two sides", () => {
  const measured = (side: string, repeat: number, ended: number, digest = "d"): Measured => {
    const samples = [sample({ ended, digest }), sample({ index: 1, ended, digest: null })];
    return { side, place: 0, repeat, samples, summary: summaryOf(samples, 10) };
  };

  test("are compared repeat by repeat", () => {
    const { ratios, same_tokens, results } = reportPoint(
      { kind: "clients", clients: 1 },
      {
        sides: ["ours", "theirs"],
        measured: [
          measured("theirs", 0, 4),
          measured("ours", 0, 2),
          measured("theirs", 1, 8, "other"),
          measured("ours", 1, 2),
        ],
      },
    );
    expect(ratios!.latency_p95_ms).toEqual({ median: 0.375, least: 0.25, most: 0.5 });
    expect(ratios!.memory_bytes).toBeNull();
    expect(same_tokens).toEqual({ compared: 2, equal: 1 });
    expect(results[1]!.medians.latency_p95_ms).toEqual({ median: 6000, least: 4000, most: 8000 });
  });

  test("one side alone has no ratios", () => {
    const point = reportPoint({ kind: "clients", clients: 1 }, { sides: ["ours"], measured: [measured("ours", 0, 2)] });
    expect(point).toMatchObject({ ratios: null, same_tokens: null });
  });
});
