import { writeFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { describe, expect, it } from "vitest";
import { missingWebgpu } from "../engine/webgpu-here.ts";
import { makeWorkplace, runJson, startServerWith } from "./blockllm.ts";
import { LOSE_FILE } from "./losing-device.ts";

const missing = await missingWebgpu();
const PROMPT = "owner : who holds the printer";

interface Answer {
  text: string;
  /** Why it ended; of one that failed the error's code. */
  end: string | null | undefined;
}

// Without a device or chromium's SwiftShader there is nothing to lose; missingWebgpu prints what is not there.
describe.skipIf(missing !== null)("serve --device webgpu", () => {
  it("ends the answers of a lost device, each with its reason, and answers the next ones", async () => {
    const folder = makeWorkplace();
    await runJson(folder, "split", "fixtures/desk/optimum/base", "fixtures/desk/optimum/hr");
    const lose = join(folder, "lose");
    const variables = { NODE_OPTIONS: `--import ${preload()}`, [LOSE_FILE]: lose };
    const server = await startServerWith(variables, folder, "--device", "webgpu");
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });

    const ask = async (model: string, maxTokens: number, onBegin = () => {}): Promise<Answer> => {
      const answer: Answer = { text: "", end: null };
      const request = { model, prompt: PROMPT, max_tokens: maxTokens, temperature: 0, ignore_eos: true };
      try {
        for await (const { choices } of await client.completions.create({ ...request, stream: true })) {
          answer.text += choices[0]?.text ?? "";
          answer.end = choices[0]?.finish_reason ?? answer.end;
          onBegin();
        }
      } catch (error) {
        answer.end = (error as InstanceType<typeof OpenAI.APIError>).code;
      }
      return answer;
    };
    const before = await ask("base", 4);
    expect(before.end).toBe("length");

    let begun = 0;
    const lost = await Promise.all(
      ["base", "hr", "base", "hr"].map(async (model) => {
        let first = true;
        return await ask(model, 120, () => {
          if (first && ++begun === 4) writeFileSync(lose, "");
          first = false;
        });
      }),
    );
    expect(lost.map(({ end }) => end)).toEqual(Array(4).fill("device_lost"));
    expect(lost.every(({ text }) => text.length > 0)).toBe(true);

    expect(await ask("base", 4)).toEqual(before);
    writeFileSync(lose, "");
    expect(await ask("base", 4), "lost while nobody ran").toEqual(before);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/^blockllm_device_losses 2$/m);
    expect(metrics).toMatch(/^blockllm_kv_bytes 0$/m);
    const { code } = await server.stop();
    expect(code).toBe(0);
  });
});

/** Threads do not inherit a loader that is given by itself: each learns to read TypeScript before. */
function preload(): string {
  const [loader, file] = ["tsx/esm/api", "./losing-device.ts"].map((name) => JSON.stringify(import.meta.resolve(name)));
  const script = `import { register } from ${loader}; register(); await import(${file});`;
  return `data:text/javascript,${encodeURIComponent(script)}`;
}
