import { readdirSync, readFileSync, utimesSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DESK, DESK_MODELS, makeWorkplace, removeWorkplace, run, runError, runJson, startServer } from "./blockllm.ts";

const DEPARTMENTS = ["support", "legal", "finance", "hr", "research"];

/** The server looks once a second, and reads the models then. */
const PATIENT = { timeout: 30_000, interval: 200 };

let folder = "";
let server: Awaited<ReturnType<typeof startServer>>;
let client: OpenAI;

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  await runJson(folder, "split", ...DESK_MODELS.map((name) => `fixtures/desk/optimum/${name}`));
  server = await startServer(folder);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });
});
afterAll(async () => {
  await server.stop();
  removeWorkplace(folder);
});

it("lists all models", async () => {
  const names = (await client.models.list()).data.map(({ id }) => id);
  expect(names.toSorted()).toEqual(DESK_MODELS.toSorted());
});

it("answers every department at once, right", async () => {
  const questions = DEPARTMENTS.flatMap((name) =>
    (JSON.parse(readFileSync(join(DESK, "eval", `${name}.json`), "utf8")) as { prompt: string; answer: string }[])
      .slice(0, 8)
      .map((question) => ({ name, ...question })),
  );
  const answers = await Promise.all(
    questions.map(async ({ name, prompt }) => {
      const completion = await client.completions.create({
        model: name,
        prompt,
        max_tokens: 14,
        temperature: 0,
        stop: " .",
      });
      return `${completion.choices[0]!.text.trim()} .`;
    }),
  );
  expect(answers).toEqual(questions.map(({ answer }) => answer));
});

it("streams a chat as the official client expects it", async () => {
  const stream = await client.chat.completions.create({
    model: "hr",
    messages: [{ role: "user", content: "owner : who holds the printer" }],
    max_tokens: 8,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  expect(text).toContain("holds it");
  expect(usage).toMatchObject({ prompt_tokens: 10, completion_tokens: 5 });
});

it("reports its health and its metrics", async () => {
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).toMatch(/^# TYPE blockllm_/m);
});

it("refuses an unknown model and a wrong key", async () => {
  await expect(client.completions.create({ model: "nobody", prompt: "x" })).rejects.toMatchObject({
    status: 404,
    code: "model_not_found",
  });
  const wrong = { model: "hr", prompt: "x", max_tokenz: 3 } as unknown as OpenAI.CompletionCreateParamsNonStreaming;
  await expect(client.completions.create(wrong)).rejects.toMatchObject({ status: 400 });
});

it("serves models as they come and go, when told to watch", async () => {
  const place = makeWorkplace();
  await runJson(place, "split", "fixtures/desk/optimum/base", "fixtures/desk/optimum/hr");
  const watching = await startServer(place, "--watch");
  const names = async (): Promise<string[]> => {
    const { data } = (await (await fetch(`${watching.url}/v1/models`)).json()) as { data: { id: string }[] };
    return data.map(({ id }) => id).toSorted();
  };
  const stream = await openStream(watching.url, 1);
  await runJson(place, "split", "fixtures/desk/optimum/legal");
  await expect.poll(names, PATIENT).toEqual(["base", "hr", "legal"]);
  await runJson(place, "rm", "hr");
  await expect.poll(names, PATIENT).toEqual(["base", "legal"]);
  expect(await stream.rest(), "began before its model went").toMatch(/data: \[DONE\]\n\n$/);
  await runJson(place, "rm", "base");
  await runJson(place, "rm", "legal");
  await expect.poll(names, PATIENT).toEqual([]);
  await runJson(place, "split", "fixtures/desk/optimum/base");
  await expect.poll(names, PATIENT).toEqual(["base"]);
  expect(await watching.stop()).toMatchObject({ code: 0, stderr: "" });
});

it("goes on with models whose blobs nobody else needs any more, through rm and gc", async () => {
  const place = makeWorkplace();
  await runJson(place, "split", "fixtures/desk/optimum/base", "fixtures/desk/optimum/research");
  const blobs = join(place, "blocks/blobs/sha256");
  for (const name of readdirSync(blobs)) utimesSync(join(blobs, name), 1, 1);
  const other = await startServer(place, "--memory", "17MB");
  await runJson(place, "rm", "research");
  expect(await runJson(place, "gc")).toMatchObject({ removed: [], young_blobs: expect.any(Number) });
  const ask = async (model: string): Promise<number> => {
    const body = JSON.stringify({ model, prompt: "owner", max_tokens: 2 });
    return (await fetch(`${other.url}/v1/completions`, { method: "POST", body })).status;
  };
  // They take turns in memory: each is loaded from its blobs again.
  for (const model of ["research", "base", "research", "base"]) expect(await ask(model)).toBe(200);
  await runJson(place, "gc", "--grace", "0s");
  for (const model of ["base", "research"]) expect(await ask(model)).toBe(model === "base" ? 200 : 500);
  await other.stop();
});

it("drains when it is told to end, and loses nothing", async () => {
  const other = await startServer(folder, "--models", "hr");
  const streams = await Promise.all(Array.from({ length: 4 }, (_, seed) => openStream(other.url, seed)));
  const stopped = other.stop();
  for (const rest of await Promise.all(streams.map((stream) => stream.rest()))) {
    expect(rest).toMatch(/"finish_reason":"(stop|length)"/);
    expect(rest).toMatch(/data: \[DONE\]\n\n$/);
  }
  const { code, stderr } = await stopped;
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
});

/** A long answer whose first frame has arrived. */
async function openStream(url: string, seed: number) {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "hr", prompt: "owner", max_tokens: 300, ignore_eos: true, seed, stream: true }),
  });
  expect(response.status).toBe(200);
  const frames = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await frames.read()).value ?? "";
  const rest = async (): Promise<string> => {
    for (let next = await frames.read(); !next.done; next = await frames.read()) text += next.value;
    return text;
  };
  return { rest };
}

it("says when the address is taken or a model is not there", async () => {
  const port = new URL(server.url).port;
  expect(await runError(folder, "serve", "--port", port, "--models", "hr")).toMatchObject({
    exit: 1,
    code: "address_in_use",
  });
  expect(await runError(folder, "serve", "--models", "nobody")).toMatchObject({ exit: 2, code: "model_not_found" });
  expect((await run(folder, "serve", "--port", "99999")).code).toBe(2);
});
