import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, afterAll, expect, it } from "vitest";
import { makeWorkplace, removeWorkplace, run, runError, runJson, startServer } from "./blockllm.ts";

const SCENARIO = {
  name: "tiny",
  arrivals: { kind: "closed", clients: 2 },
  prompt: { kind: "uniform", from: 3, to: 9 },
  output: { kind: "fixed", tokens: 4 },
  requests: 6,
  warm_up: 1,
  repeats: 1,
};

interface Point {
  results: { side: string; runs: { finish_reasons: object; left: object }[] }[];
  same_tokens: { compared: number; equal: number } | null;
}

let folder = "";

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  writeFileSync(join(folder, "tiny.json"), JSON.stringify(SCENARIO));
  await run(folder, "split", "fixtures/desk/optimum/support", "fixtures/desk/optimum/legal");
});
afterAll(() => removeWorkplace(folder));

it("measures the repository next to one whole model each, and writes a page", async () => {
  const { points } = await runJson<{ points: [Point] }>(
    folder,
    "bench",
    "--scenario",
    "tiny.json",
    "--against",
    "per-model",
    "--originals",
    "fixtures/desk/optimum",
    "--report",
    "bench.html",
  );
  expect(points[0].same_tokens).toEqual({ compared: 6, equal: 6 });
  expect(points[0].results.map(({ side }) => side)).toEqual(["blockllm", "per-model"]);
  expect(points[0].results[0]!.runs[0]).toMatchObject({
    finish_reasons: { length: 6 },
    left: { queued: 0, running: 0, kvBytes: 0 },
  });
  expect(readFileSync(join(folder, "bench.html"), "utf8")).toContain("<svg");
});

it("measures a server of its own, over HTTP", async () => {
  const server = await startServer(folder);
  try {
    const { points } = await runJson<{ points: [Point] }>(
      folder,
      "bench",
      "--scenario",
      "tiny.json",
      "--url",
      server.url,
    );
    expect(points[0].results[0]!.runs[0]).toMatchObject({ finish_reasons: { length: 6 } });
  } finally {
    await server.stop();
  }
});

it("ends with 3 when a gate is not met, after it said everything", async () => {
  const command = ["bench", "--scenario", "tiny.json", "--against", "per-model", "--min-ratio", "1000"];
  const { code, stdout, stderr } = await run(folder, "--json", "--quiet", ...command);
  expect(code).toBe(3);
  expect((JSON.parse(stdout) as { gates: object[] }).gates).toMatchObject([{ name: "min_ratio", passed: false }]);
  expect(stderr).toMatch(/^error gate_not_met: the ratio of tokens\/s is [\d.]+, --min-ratio asks for 1000/);
});

it.each([
  [["--scenario", "nowhere"], "scenario_invalid"],
  [["--against", "somebody"], "usage"],
  [["--url", "http://127.0.0.1:9"], "server_unreachable"],
  [["--models", "absent"], "model_not_found"],
  [["--report", "tiny.json"], "usage"],
])("%j is an error of its own", async (options, code) => {
  expect(await runError(folder, "bench", ...options)).toMatchObject({ code });
});
