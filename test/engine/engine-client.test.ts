import { chmod, readFile, writeFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EngineClient, startEngine, type EngineOptions } from "../../src/engine/engine-client.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { openForward } from "../../src/engine/forward.ts";
import type { EngineEvent, EngineRequest } from "../../src/engine/request.ts";
import { scriptedModel } from "./scripted-model.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";

let source: TemporaryRepository;
let engine: EngineClient;

beforeAll(async () => {
  source = await temporaryRepository([
    { name: "base", layers: [10, 11] },
    { name: "tuned", layers: [10, 21] },
  ]);
  engine = await startEngine({
    repository: source.folder,
    models: "all",
    threads: 1,
    kvMemoryBytes: 2 ** 20,
    maxQueue: 8,
  });
});
afterAll(async () => {
  await engine.close();
  await source.remove();
});

/** Around the time that loading takes: before the thread runs, between sessions, or when it is ready. */
test.each([0, 100, 300, 500, 700, 900])("starting is given up when it is stopped after %d ms", async (after) => {
  const stop = new AbortController();
  const reason = new Error("stopped");
  setTimeout(() => stop.abort(reason), after);
  const starting = startEngine({ repository: source.folder, models: "all", threads: 1, signal: stop.signal });
  const outcome = await starting.catch((error: unknown) => error);
  if (outcome instanceof EngineClient) await outcome.close();
  else expect(outcome).toBe(reason);
  if (after <= 100) expect(outcome).toBe(reason);
});

const PROMPT = [5, 6, 7, 8];

function request(more: Partial<EngineRequest> = {}): EngineRequest {
  return { model: "base", tokens: PROMPT, maxTokens: 5, sampling: { temperature: 0 }, ...more };
}

async function collect(events: AsyncIterable<EngineEvent>): Promise<{ tokens: number[]; end: EngineEvent }> {
  const tokens: number[] = [];
  let end: EngineEvent | undefined;
  for await (const event of events) {
    if (event.type === "token-delta") tokens.push(event.token);
    else end = event;
  }
  return { tokens, end: end! };
}

/** The code that submitting throws. */
function code(more: Partial<EngineRequest>): unknown {
  try {
    engine.submit(request(more));
  } catch (error) {
    return (error as { code: unknown }).code;
  }
  return null;
}

async function start(options: Partial<EngineOptions>): Promise<unknown> {
  return startEngine({ repository: source.folder, models: ["base"], ...options });
}

describe("the engine in its thread", () => {
  test("names what it serves", () => {
    expect(engine.models.map(({ name, contextLength, vocabSize }) => ({ name, contextLength, vocabSize }))).toEqual([
      { name: "base", contextLength: 256, vocabSize: 96 },
      { name: "tuned", contextLength: 256, vocabSize: 96 },
    ]);
  });

  test("gives the tokens that the model gives alone, for all models at once", async () => {
    const answers = await Promise.all(
      ["base", "tuned"].map(async (model) => collect(engine.submit(request({ model })).events)),
    );
    for (const [index, model] of ["base", "tuned"].entries()) {
      const forward = await openForward(source.repository, model, { threads: 1 });
      expect(answers[index]!.tokens).toEqual(await forward.greedy(PROMPT, 5));
      expect(answers[index]!.end).toEqual({
        type: "request-end",
        reason: "length",
        promptTokens: 4,
        completionTokens: 5,
        waited: expect.any(Object),
      });
      await forward.close();
    }
  });

  test("ends a cancelled request, also one whose events are left early", async () => {
    const running = engine.submit(request({ maxTokens: 200 }));
    running.cancel();
    expect((await collect(running.events)).end).toMatchObject({ reason: "cancelled" });

    for await (const event of engine.submit(request({ maxTokens: 200 })).events)
      if (event.type === "token-delta") break;
    await expect.poll(async () => (await engine.stats()).kvBytes).toBe(0);
  });

  test("refuses at once what it cannot serve", () => {
    expect(code({ model: "nobody" })).toBe("model_not_found");
    expect(code({ tokens: [] })).toBe("request_invalid");
    expect(code({ tokens: [96] })).toBe("request_invalid");
    expect(code({ maxTokens: 0 })).toBe("request_invalid");
    expect(code({ tokens: Array.from({ length: 256 }, () => 1) })).toBe("context_length_exceeded");
  });

  test("refuses with queue_full when too many wait, and serves those it took", async () => {
    const taken = Array.from({ length: 8 }, () => engine.submit(request()));
    expect(() => engine.submit(request())).toThrow(expect.objectContaining({ code: "queue_full" }));
    const ends = await Promise.all(taken.map(async ({ events }) => (await collect(events)).end));
    expect(ends).toEqual(ends.map(() => expect.objectContaining({ reason: "length" })));
  });

  test("ends the answer at a stop token, which it does not give", async () => {
    const { tokens } = await collect(engine.submit(request()).events);
    const stop = tokens[2]!;
    const cut = tokens.indexOf(stop);
    expect(await collect(engine.submit(request({ stopTokens: [stop] })).events)).toEqual({
      tokens: tokens.slice(0, cut),
      end: { type: "request-end", reason: "stop", promptTokens: 4, completionTokens: cut, waited: expect.any(Object) },
    });
  });
});

describe("the end of an engine", () => {
  test("drain refuses new requests and waits for the others", async () => {
    const draining = await startEngine({ repository: source.folder, models: ["base"], threads: 1 });
    const answer = collect(draining.submit(request({ maxTokens: 40 })).events);
    const drained = draining.drain();
    expect(() => draining.submit(request())).toThrow(expect.objectContaining({ code: "server_draining" }));
    await drained;
    expect((await answer).end).toMatchObject({ reason: "length", completionTokens: 40 });
    await draining.close();
    await expect(draining.stats()).rejects.toMatchObject({ code: "engine_failed" });
  });

  test("close ends running requests as cancelled", async () => {
    const closing = await startEngine({ repository: source.folder, models: ["base"], threads: 1 });
    const answer = collect(closing.submit(request({ maxTokens: 250 })).events);
    await closing.close();
    expect((await answer).end).toMatchObject({ type: "request-end" });
  });

  test("start tells what is wrong", async () => {
    await expect(start({ models: ["nobody"] })).rejects.toMatchObject({ code: "model_not_found" });
    await expect(start({ repository: "/nowhere" })).rejects.toMatchObject({ code: "repository_not_found" });
    await expect(start({ maxBatchTokens: 8 })).rejects.toMatchObject({ code: "usage" });
    await expect(start({ kvMemoryBytes: 100 })).rejects.toMatchObject({ code: "memory_exceeded" });
  });

  test("a damaged weight is found before it computes anything", async () => {
    const damaged = await temporaryRepository([{ name: "base", layers: [10] }]);
    const chain = await resolveChain(damaged.repository, "base");
    const step = chain.kind === "blocks" ? chain.steps[1] : undefined;
    const digest = step?.kind === "part" ? step.part.tensors[1]?.digest : undefined;
    const path = damaged.repository.blobs.path(digest!);
    const bytes = await readFile(path);
    bytes[77]! ^= 1;
    await chmod(path, 0o644);
    await writeFile(path, bytes);
    await expect(start({ repository: damaged.folder })).rejects.toMatchObject({ code: "blob_corrupt" });
    await damaged.remove();
  });

  test.each([
    ["throws", "throw new Error('kernel failed')", "kernel failed"],
    ["exits", "process.exit(7)", "code 7"],
  ])("when its thread %s, every request ends and is told why", async (_, crash, reason) => {
    const program = `require("node:worker_threads").parentPort.on("message", ({ type }) => { if (type === "cancel") ${crash}; })`;
    const models = [scriptedModel({ name: "base" })];
    const client = new EngineClient(new Worker(program, { eval: true }), models, engineConfig());
    const running = [client.submit(request()), client.submit(request())];
    const stats = client.stats();
    running[0]!.cancel();
    for (const { events } of running) {
      const error = expect.objectContaining({ code: "engine_failed", message: expect.stringContaining(reason) });
      expect(await collect(events)).toEqual({
        tokens: [],
        end: { type: "request-end", reason: "error", error, promptTokens: 4, completionTokens: 0 },
      });
    }
    await expect(stats).rejects.toMatchObject({ code: "engine_failed" });
    expect(() => client.submit(request())).toThrow(expect.objectContaining({ code: "engine_failed" }));
    await client.drain();
  });
});
