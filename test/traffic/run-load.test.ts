import { describe, expect, test } from "vitest";
import type { QuestionMix } from "../../src/traffic/questions.ts";
import { runLoad, type Load } from "../../src/traffic/run-load.ts";
import { Refused } from "../../src/traffic/target.ts";
import { after, ScriptedTarget } from "./scripted-target.ts";

const MIX: QuestionMix = {
  seed: 1,
  tenants: [{ model: "a" }],
  zipf: 0,
  prompt: { kind: "fixed", tokens: 3 },
  output: { kind: "fixed", tokens: 4 },
  sharedPrefix: 0,
  temperature: 0,
  vocabulary: 50,
  contextLength: 64,
};
const COMMON = { mix: MIX, timeoutSeconds: 10, retries: 0 };

async function play(target: ScriptedTarget, load: Partial<Load> & Pick<Load, "arrivals">) {
  return await runLoad(target, { ...COMMON, ...load }, new AbortController().signal);
}

describe("a closed loop", () => {
  test("asks every question once, never more at a time than it has clients", async () => {
    const target = new ScriptedTarget(() => after(2));
    const limits = { requests: 20, seconds: null };
    const { samples, seconds } = await play(target, { arrivals: { kind: "closed", clients: 3, limits } });
    expect(samples.map(({ index }) => index)).toEqual(Array.from({ length: 20 }, (_, index) => index));
    expect(target.asked).toHaveLength(20);
    expect(target.most).toBe(3);
    expect(samples.every(({ due, sent }) => due === sent)).toBe(true);
    expect(seconds).toBeGreaterThan(0);
  });

  test("ends when its time is over, with every answer", async () => {
    const target = new ScriptedTarget(() => after(5));
    const { samples } = await play(target, {
      arrivals: { kind: "closed", clients: 2, limits: { requests: null, seconds: 0.05 } },
    });
    expect(samples.length).toBe(target.asked.length);
    expect(samples.every(({ outcome }) => outcome.kind === "finished")).toBe(true);
  });
});

describe("an open loop", () => {
  test("asks when it is due although nobody has answered, and counts from then", async () => {
    let answer = (): void => {};
    const all = new Promise<void>((resolve) => (answer = resolve));
    const target = new ScriptedTarget(() => all);
    const times = [0, 0.01, 0.02, 0.02];
    const running = play(target, { arrivals: { kind: "open", times, seconds: null } });
    while (target.asked.length < 4) await after(2);
    expect(target.most).toBe(4);
    answer();
    const { samples } = await running;
    expect(samples.map(({ due }) => due)).toEqual(times);
    for (const { due, sent, ended } of samples) {
      expect(sent).toBeGreaterThanOrEqual(due - 0.002);
      expect(ended).toBeGreaterThanOrEqual(sent);
    }
  });

  test("comes back when a 429 says so, and no sooner", async () => {
    const target = new ScriptedTarget((_, __, asked) =>
      asked === 1 ? Promise.reject(new Refused("full", 0.05)) : Promise.resolve(),
    );
    const { samples } = await play(target, { arrivals: { kind: "open", times: [0], seconds: null }, retries: 1 });
    expect(samples[0]).toMatchObject({ refusals: 1, retryAfterSeconds: 0.05, outcome: { kind: "finished" }, due: 0 });
    expect(samples[0]!.ended).toBeGreaterThanOrEqual(0.045);
  });

  test("gives up after its retries, and says so", async () => {
    const target = new ScriptedTarget(() => Promise.reject(new Refused("full", 0.001)));
    const { samples } = await play(target, { arrivals: { kind: "open", times: [0, 0], seconds: null }, retries: 2 });
    expect(target.asked).toHaveLength(6);
    expect(samples.map(({ outcome, refusals }) => [outcome.kind, refusals])).toEqual([
      ["refused", 3],
      ["refused", 3],
    ]);
  });
});

describe("what goes wrong", () => {
  test("a question without an end is a timeout, an error keeps its words", async () => {
    const target = new ScriptedTarget(async ({ index }, signal) =>
      index === 0 ? await after(60_000, signal) : await Promise.reject(new Error("kernel failed")),
    );
    const { samples } = await play(target, {
      arrivals: { kind: "open", times: [0, 0], seconds: null },
      timeoutSeconds: 0.05,
    });
    expect(samples.map(({ outcome }) => outcome)).toEqual([
      { kind: "timeout" },
      { kind: "error", message: "kernel failed" },
    ]);
  });

  test("an abort ends the run at once", async () => {
    for (const arrivals of [
      { kind: "open", times: [0, 60], seconds: null },
      { kind: "closed", clients: 2, limits: { requests: 4, seconds: null } },
    ] as const) {
      const stop = new AbortController();
      const target = new ScriptedTarget(async (_, signal) => await after(60_000, signal));
      const running = runLoad(target, { ...COMMON, arrivals }, stop.signal);
      while (target.asked.length === 0) await after(2);
      stop.abort();
      await expect(running).rejects.toThrow(/abort/i);
    }
  });

  test("equal answers have equal digests", async () => {
    const run = async () =>
      await play(new ScriptedTarget(() => after(0)), { arrivals: { kind: "open", times: [0, 0], seconds: null } });
    const [first, second] = [await run(), await run()];
    expect(first.samples.map(({ digest }) => digest)).toEqual(second.samples.map(({ digest }) => digest));
    expect(first.samples[0]!.digest).not.toBe(first.samples[1]!.digest);
  });
});
