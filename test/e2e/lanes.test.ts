import { mkdtempSync, readdirSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { expect, it } from "vitest";
import { makeWorkplace, run, runJson, startServerWith } from "./blockllm.ts";

const MODELS = ["base", "hr", "sales"];
const PROMPT = "owner : who holds the printer";

it(
  "serve --lanes gives every answer the text that it has without lanes, and shuts down",
  { timeout: 120_000 },
  async () => {
    const folder = makeWorkplace();
    await runJson(folder, "split", ...MODELS.map((name) => `fixtures/desk/optimum/${name}`));
    const plain = await answers(folder);
    const inLanes = await answers(folder, "--lanes", "2");
    expect(plain.steps).toBe(0);
    expect(inLanes.steps).toBeGreaterThan(0);
    expect(inLanes.texts).toEqual(plain.texts);
    expect(new Set(plain.texts).size).toBeGreaterThan(1);
  },
);

it("plan --lanes counts what their sessions take", async () => {
  const folder = makeWorkplace();
  await runJson(folder, "split", ...MODELS.map((name) => `fixtures/desk/optimum/${name}`));
  const plan = async (lanes: string): Promise<{ segments: unknown[]; memory: { weights: number } }> =>
    await runJson(folder, "plan", "--memory", "1GB", "--lanes", lanes);
  const [plain, inLanes] = [await plan("1"), await plan("2")];
  expect(inLanes.memory.weights - plain.memory.weights).toBe(2 * 2 ** 20 * plain.segments.length);
});

it("more lanes than threads are an error before anything is loaded", async () => {
  const folder = makeWorkplace();
  await runJson(folder, "split", "fixtures/desk/optimum/base");
  const { code, stderr } = await run(folder, "serve", "--lanes", "4096");
  expect(code).toBe(2);
  expect(stderr).toContain("lanes is 4096");
});

async function answers(folder: string, ...options: string[]): Promise<{ texts: string[]; steps: number }> {
  const temporary = mkdtempSync(join(folder, "temporary-"));
  const server = await startServerWith({ TMPDIR: temporary }, folder, "--speculate", "off", ...options);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });
  const texts = await Promise.all(
    Array.from({ length: 9 }, async (_, place) => {
      const model = MODELS[place % MODELS.length]!;
      const asked = { model, prompt: `${PROMPT} ${place}`, max_tokens: 24, temperature: 0, ignore_eos: true };
      return (await client.completions.create(asked)).choices[0]!.text;
    }),
  );
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const { code } = await server.stop();
  expect(code).toBe(0);
  expect(readdirSync(temporary), "files left behind").toEqual([]);
  return { texts, steps: Number(/^blockllm_lane_batches (\d+)$/m.exec(metrics)![1]) };
}
