import { expect } from "vitest";
import type { SampledRows } from "./serve-recorded.ts";

/** Not `toEqual`: it would print thousands of floats, and it holds 0 and -0 to be different. */
export function expectSameBits(rows: SampledRows, alone: SampledRows): void {
  expect(new Set(rows.keys())).toEqual(new Set(alone.keys()));
  for (const [id, expected] of alone) {
    const given = rows.get(id)!;
    expect(given.length, `tokens of request ${id}`).toBe(expected.length);
    const wrong = expected.findIndex((row, at) => row.some((logit, token) => !Object.is(logit, given[at]![token])));
    expect(wrong, `first token of request ${id} whose logits differ`).toBe(-1);
  }
}
