import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEngine, type EngineClient } from "../../src/engine/engine-client.ts";
import { startServer, type RunningServer } from "../../src/server/server.ts";
import { addModel } from "../../src/store/add-model.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { runBench, type NamedSide } from "../../src/traffic/bench.ts";
import { judge } from "../../src/traffic/gates.ts";
import { modelFolders } from "../../src/traffic/per-model/model-folders.ts";
import { parseScenario, type Scenario } from "../../src/traffic/scenario.ts";
import { temporaryFolder } from "../onnx/temporary-folder.ts";

const DESK = resolve(import.meta.dirname, "../../fixtures/desk/optimum");
const MODELS = ["support", "legal"];
const signal = new AbortController().signal;

let folder: string;
let repository: Repository;
let ours: NamedSide;

beforeAll(async () => {
  folder = join(temporaryFolder(), "blocks");
  repository = await openRepository(folder, { create: true });
  for (const name of MODELS) await addModel(repository, join(DESK, name));
  ours = side("blockllm", { kind: "engine", repository: folder, models: "all", engine: { threads: 1 } });
});

function side(name: string, of: NamedSide["side"]): NamedSide {
  return { name, about: "under test", side: of };
}

function scenario(more: object): Scenario {
  return parseScenario(
    {
      name: "test",
      arrivals: { kind: "closed", clients: 3 },
      prompt: { kind: "uniform", from: 3, to: 12 },
      output: { kind: "uniform", from: 2, to: 8 },
      requests: 8,
      warm_up: 2,
      repeats: 1,
      ...more,
    },
    "test",
  );
}

describe("in process", () => {
  test("against one whole-model session each: the same questions get the same tokens", async () => {
    const folders = await modelFolders(repository, MODELS, { originals: null, signal, onExport: () => {} });
    try {
      expect(folders.exported).toEqual(MODELS);
      const theirs = side("per-model", { kind: "per-model", repository: folder, models: folders.models, engine: {} });
      const report = await runBench({ scenario: scenario({ repeats: 2 }), sides: [ours, theirs], signal });
      const [point] = report.points;
      expect(point!.same_tokens).toEqual({ compared: 16, equal: 16 });
      for (const { runs } of point!.results) {
        expect(runs).toHaveLength(2);
        for (const run of runs) {
          expect(run).toMatchObject({
            requests: 8,
            finish_reasons: { length: 8 },
            errors: {},
            timeouts: 0,
            refused: 0,
          });
          expect(run.left).toEqual({ queued: 0, running: 0, kvBytes: 0 });
          expect(run.tokens_per_second).toBeGreaterThan(0);
          if (process.platform === "linux") expect(run.processor_ms_per_token).toBeGreaterThan(0);
        }
      }
      expect(point!.ratios!.tokens_per_second!.least).toBeGreaterThan(0);
      expect(report.sides.map(({ models }) => models)).toEqual([
        ["legal", "support"],
        ["legal", "support"],
      ]);
      expect(judge(report, { minRatio: 0, maxP95: 1e9, maxErrors: 0 }).map(({ passed }) => passed)).toEqual([
        true,
        true,
        true,
      ]);
      expect(judge(report, { minRatio: 1e9, maxP95: 1e-9 }).map(({ passed }) => passed)).toEqual([false, false]);
    } finally {
      await folders.remove();
    }
  });

  test("originals are taken as they are", async () => {
    const folders = await modelFolders(repository, MODELS, { originals: DESK, signal, onExport: () => {} });
    expect(folders).toMatchObject({ exported: [], models: MODELS.map((name) => ({ name, folder: join(DESK, name) })) });
    await folders.remove();
  });

  test("loads as shares of saturation are as many points", async () => {
    const report = await runBench({
      scenario: scenario({ arrivals: { kind: "saturation", shares: [0.5, 2], clients: 2 } }),
      sides: [ours],
      signal,
    });
    expect(report.saturation!.side).toBe("blockllm");
    expect(report.saturation!.requests_per_second.median).toBeGreaterThan(0);
    expect(report.points.map(({ load }) => load)).toEqual([
      { kind: "share", share: 0.5 },
      { kind: "share", share: 2 },
    ]);
    for (const { results } of report.points) expect(results[0]!.runs[0]).toMatchObject({ requests: 8, errors: {} });
  });

  test("more at once than the queue takes: each has an answer or a 429", async () => {
    const engine = { threads: 1, maxQueue: 2, maxSequences: 1 };
    const report = await runBench({
      scenario: scenario({
        arrivals: { kind: "trace", times: Array.from({ length: 30 }, () => 0) },
        requests: null,
      }),
      sides: [side("blockllm", { kind: "engine", repository: folder, models: "all", engine })],
      signal,
    });
    const [run] = report.points[0]!.results[0]!.runs;
    expect(run!.refused).toBeGreaterThan(0);
    expect(run!.refused + run!.finish_reasons["length"]!).toBe(30);
    expect(run!.retry_after_seconds).toBeGreaterThanOrEqual(1);
    expect(run!.left).toEqual({ queued: 0, running: 0, kvBytes: 0 });
  });

  test("prompts that do not fit are cut, and that is said", async () => {
    const report = await runBench({
      scenario: scenario({ prompt: { kind: "fixed", tokens: 5000 }, requests: 2, warm_up: 0 }),
      sides: [ours],
      signal,
    });
    expect(report.notes).toEqual([expect.stringMatching(/5008 tokens are cut to the models' context/)]);
    expect(report.points[0]!.results[0]!.runs[0]!.finish_reasons).toEqual({ length: 2 });
  });

  test("a model that is not there ends it with its error, and leaves no process", async () => {
    const absent = side("blockllm", { kind: "engine", repository: folder, models: ["absent"], engine: {} });
    await expect(runBench({ scenario: scenario({}), sides: [absent], signal })).rejects.toMatchObject({
      code: "model_not_found",
    });
  });

  test("an abort ends it in the middle", async () => {
    const stop = new AbortController();
    const running = runBench({
      scenario: scenario({ arrivals: { kind: "poisson", rate: 1 }, requests: null, seconds: 600 }),
      sides: [ours],
      signal: stop.signal,
      onProgress: (doing) => void (doing.includes("requests/s") && stop.abort(new Error("enough"))),
    });
    await expect(running).rejects.toThrow("enough");
  });
});

describe("over HTTP", () => {
  let engine: EngineClient;
  let server: RunningServer;

  beforeAll(async () => {
    engine = await startEngine({ repository: folder, models: "all", threads: 1 });
    server = await startServer({ engine, texts: new Map(), host: "127.0.0.1", port: 0 });
  });
  afterAll(async () => {
    await server.close();
    await engine.close();
  });

  test("a server gives the tokens that the engine gives in process", async () => {
    const http = side("server", { kind: "http", url: server.url, keys: [], models: "all" });
    const report = await runBench({
      scenario: scenario({ arrivals: { kind: "constant", rate: 50 }, tenants: { count: 4, zipf: 1 } }),
      sides: [http, ours],
      signal,
    });
    const [point] = report.points;
    expect(point!.same_tokens).toEqual({ compared: 8, equal: 8 });
    const [run] = point!.results[0]!.runs;
    expect(run).toMatchObject({ requests: 8, finish_reasons: { length: 8 }, errors: {} });
    expect(run!.left).toEqual({ queued: 0, running: 0, kvBytes: 0 });
    // The server runs in this process, and is found by the port it listens on.
    if (process.platform === "linux") expect(run!.memory_bytes).toBeGreaterThan(1e7);
  });

  test("where nothing listens, that is said", async () => {
    const nobody = side("nobody", { kind: "http", url: "http://127.0.0.1:9", keys: [], models: "all" });
    await expect(runBench({ scenario: scenario({}), sides: [nobody], signal })).rejects.toMatchObject({
      code: "server_unreachable",
    });
  });
});
