import { describe, expect, test } from "vitest";
import { loadOf, pointsOf, saturatingLoad, warmUpLoad } from "../../src/traffic/points.ts";
import type { QuestionMix } from "../../src/traffic/questions.ts";
import { parseScenario, type Scenario } from "../../src/traffic/scenario.ts";

const MIX = { seed: 3, zipf: 1 } as QuestionMix;

function scenario(more: object): Scenario {
  return parseScenario(
    {
      name: "test",
      arrivals: { kind: "closed", clients: 2 },
      prompt: { kind: "fixed", tokens: 4 },
      output: { kind: "fixed", tokens: 4 },
      requests: 100,
      ...more,
    },
    "test",
  );
}

function openTimes(given: Scenario, saturation: number | null = null): { times: number; seconds: number | null } {
  const { arrivals } = loadOf(given, pointsOf(given)[0]!, { mix: MIX, saturation });
  if (arrivals.kind !== "open") throw new Error("the load is closed");
  return { times: arrivals.times.length, seconds: arrivals.seconds };
}

describe("the loads of a scenario", () => {
  test("are one for each value of a list", () => {
    expect(pointsOf(scenario({ arrivals: { kind: "closed", clients: [1, 4] } }))).toEqual([
      { kind: "clients", clients: 1 },
      { kind: "clients", clients: 4 },
    ]);
    expect(pointsOf(scenario({ arrivals: { kind: "constant", rate: [0.5, 2] } }))).toEqual([
      { kind: "rate", per_second: 0.5 },
      { kind: "rate", per_second: 2 },
    ]);
  });

  test("at a rate last as long as their arrivals take, or their time", () => {
    expect(openTimes(scenario({ arrivals: { kind: "constant", rate: 4 } }))).toEqual({ times: 100, seconds: 25 });
    expect(openTimes(scenario({ arrivals: { kind: "constant", rate: 4 }, seconds: 10 }))).toEqual({
      times: 40,
      seconds: 10,
    });
    expect(openTimes(scenario({ arrivals: { kind: "constant", rate: 4 }, requests: null, seconds: 0.1 }))).toEqual({
      times: 1,
      seconds: 0.1,
    });
  });

  test("of a trace last until the last answer", () => {
    const trace = { kind: "trace", times: [0, 1, 2] };
    expect(openTimes(scenario({ arrivals: trace, requests: null }))).toEqual({ times: 3, seconds: null });
  });

  test("as shares refer to what was measured", () => {
    const shares = scenario({ arrivals: { kind: "saturation", shares: 0.5, clients: 4 } });
    expect(openTimes(shares, 8)).toEqual({ times: 100, seconds: 25 });
    const load = saturatingLoad(shares, MIX);
    expect(load!.arrivals).toEqual({ kind: "closed", clients: 4, limits: { requests: 100, seconds: null } });
    expect(saturatingLoad(scenario({}), MIX)).toBeNull();
  });

  test("are preceded by a warm-up of all tenants alike, or by none", () => {
    expect(warmUpLoad(scenario({ warm_up: 0 }), MIX)).toBeNull();
    const load = warmUpLoad(scenario({ warm_up: 3 }), MIX);
    expect(load).toMatchObject({ mix: { zipf: 0 }, arrivals: { clients: 3, limits: { requests: 3 } } });
  });
});
