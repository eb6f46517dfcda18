import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { BUILT_IN_SCENARIOS } from "../../src/traffic/built-in-scenarios.ts";
import { engineOptions, parseScenario, readScenario } from "../../src/traffic/scenario.ts";
import { temporaryFolder } from "../onnx/temporary-folder.ts";

const LEAST = {
  name: "least",
  arrivals: { kind: "closed", clients: 2 },
  prompt: { kind: "fixed", tokens: 4 },
  output: { kind: "fixed", tokens: 4 },
  requests: 4,
};

function problem(more: object): string {
  try {
    parseScenario({ ...LEAST, ...more }, "test.json");
  } catch (error) {
    expect(error).toMatchObject({ code: "scenario_invalid" });
    return (error as Error).message;
  }
  return "none";
}

describe("scenarios", () => {
  test("have all their keys in docs/bench.md", () => {
    const document = readFileSync(resolve(import.meta.dirname, "../../docs/bench.md"), "utf8");
    const missing = Object.keys(parseScenario(LEAST, "test.json")).filter((key) => !document.includes(`\`${key}\``));
    expect(missing).toEqual([]);
    const unnamed = Object.keys(BUILT_IN_SCENARIOS).filter((name) => !document.includes(`\`${name}\``));
    expect(unnamed).toEqual([]);
  });

  test.each(Object.keys(BUILT_IN_SCENARIOS))("the built-in %s is sound", async (name) => {
    expect(await readScenario(name)).toMatchObject({ name, about: expect.stringMatching(/./) });
  });

  test("what is left out has defaults", () => {
    expect(parseScenario(LEAST, "test.json")).toMatchObject({
      seed: 1,
      arrivals: { clients: [2] },
      tenants: { count: null, zipf: 0 },
      repeats: 3,
      retries: 0,
      goals: {},
    });
  });

  test.each([
    [{ promt: 1 }, /promt/],
    [{ prompt: { kind: "fixed", tokens: 0 } }, /"prompt\.tokens"/],
    [{ prompt: { kind: "gamma", tokens: 1 } }, /"prompt\.kind"/],
    [{ prompt: { kind: "uniform", from: 9, to: 3 } }, /"prompt": expected from ≤ to/],
    [{ output: { kind: "lognormal", median: 9, sigma: 1, min: 9, max: 3 } }, /"output": expected/],
    [{ arrivals: { kind: "poisson", rate: [1, -2] } }, /"arrivals\.rate/],
    [{ arrivals: { kind: "trace", times: [1, 0] } }, /"arrivals\.times": expected times in ascending order/],
    [{ arrivals: { kind: "closed", clients: 1.5 } }, /"arrivals\.clients/],
    [{ requests: null }, /"requests": expected a number, here or in seconds/],
    [{ temperature: 3 }, /"temperature"/],
    [{ engine: { max_queue: 0 } }, /"engine\.max_queue"/],
    [
      { arrivals: { kind: "saturation", shares: 2, clients: 9 }, engine: { max_queue: 8 } },
      /"arrivals\.clients": expected at most/,
    ],
    [{ name: undefined }, /"name"/],
  ])("%j is refused by name", (more, expected) => {
    expect(problem(more)).toMatch(expected);
  });

  test("a trace ends by itself", () => {
    expect(problem({ requests: undefined, arrivals: { kind: "trace", times: [0, 1] } })).toBe("none");
  });

  test("files that are not there or no JSON are told apart", async () => {
    await expect(readScenario("nowhere")).rejects.toMatchObject({
      code: "scenario_invalid",
      hint: expect.stringContaining("overload"),
    });
    const file = join(temporaryFolder(), "scenario.json");
    await writeFile(file, "{");
    await expect(readScenario(file)).rejects.toThrow(/is not JSON/);
    await writeFile(file, JSON.stringify(LEAST));
    expect(await readScenario(file)).toMatchObject({ name: "least" });
  });

  test("engine knobs go to engines under the engine's names", () => {
    const scenario = parseScenario({ ...LEAST, engine: { max_queue: 3, prefix_cache: "off" } }, "test.json");
    expect(engineOptions(scenario)).toEqual({ maxQueue: 3, prefixCache: "off" });
  });
});
