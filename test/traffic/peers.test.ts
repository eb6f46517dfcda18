import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { findPeer } from "../../src/traffic/peers/installed-peer.ts";
import { LlamaTarget } from "../../src/traffic/peers/llama-target.ts";
import { TransformersTarget } from "../../src/traffic/peers/transformers-target.ts";
import type { Question } from "../../src/traffic/questions.ts";
import type { NewTokens, Target } from "../../src/traffic/target.ts";
import { temporaryFolder } from "../onnx/temporary-folder.ts";

/** What the packages look like from here; each gives the tokens 100, 101, … */
const TRANSFORMERS = `
let open = 0;
exports.env = {};
exports.Tensor = class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } };
exports.AutoModelForCausalLM = {
  async from_pretrained(folder, { local_files_only, use_external_data_format = false }) {
    if (!local_files_only || exports.env.allowRemoteModels !== false) throw new Error("it would download");
    if (folder.endsWith("absent")) throw new Error("no config.json");
    if (use_external_data_format !== require("node:fs").existsSync(folder + "/model.onnx_data"))
      throw new Error("it looks for model.onnx_data where it is not, or not where it is");
    return {
      async generate({ inputs, max_new_tokens, streamer }) {
        if (++open > 1) throw new Error("two at once");
        streamer.put([[...inputs.data]]);
        for (let at = 0; at < max_new_tokens; at++) {
          await new Promise((resolve) => setImmediate(resolve));
          streamer.put([[BigInt(100 + at)]]);
        }
        streamer.end();
        open--;
      },
      async dispose() {},
    };
  },
};`;
const LLAMA = `
exports.getLlama = async () => ({
  async loadModel({ modelPath }) {
    return {
      async createContext({ sequences }) {
        let open = 0;
        return {
          getSequence() {
            if (++open > sequences) throw new Error("no sequence left");
            return {
              async *evaluate(tokens) { for (let at = 0; ; at++) yield 100 + at; },
              dispose() { open--; },
            };
          },
        };
      },
    };
  },
  async dispose() {},
});`;

let project: string;

beforeAll(async () => {
  project = temporaryFolder();
  for (const [name, source] of [
    ["@huggingface/transformers", TRANSFORMERS],
    ["node-llama-cpp", LLAMA],
  ] as const) {
    await mkdir(join(project, "node_modules", name), { recursive: true });
    await writeFile(join(project, "node_modules", name, "index.js"), source);
  }
  for (const folder of ["one", "genai", "optimum"]) await mkdir(join(project, folder));
  await writeFile(join(project, "genai", "model.onnx.data"), "");
  await writeFile(join(project, "optimum", "model.onnx_data"), "");
  await writeFile(join(project, "one", "model.gguf"), "");
});

const question = (index: number): Question => ({
  index,
  tenant: 0,
  model: "a",
  prompt: [4, 5, 6],
  maxTokens: 3,
  temperature: 0,
  seed: 1,
});

async function expectThree(target: Target): Promise<void> {
  const answers = await Promise.all(
    [0, 1, 2].map(async (index) => {
      const heard: NewTokens[] = [];
      const answer = await target.ask(question(index), (tokens) => heard.push(tokens), new AbortController().signal);
      return { answer, ids: heard.flatMap(({ ids }) => ids ?? []) };
    }),
  );
  for (const { answer, ids } of answers) {
    expect(answer).toEqual({ reason: "length", promptTokens: 3, completionTokens: 3 });
    expect(ids).toEqual([100, 101, 102]);
  }
  await target.close();
}

test("a peer is found where the user installed it, and nowhere else", () => {
  expect(findPeer("transformers.js", project)).toMatch(/^file:.*node_modules\/@huggingface\/transformers\/index\.js$/);
  expect(findPeer("node-llama-cpp", temporaryFolder())).toBeNull();
});

describe("transformers.js", () => {
  test("answers one question of a model after the other, without its prompt", async () => {
    const entry = findPeer("transformers.js", project)!;
    await expectThree(await TransformersTarget.load(entry, [{ name: "a", folder: join(project, "one") }]));
  });

  test.each(["genai", "optimum"])("takes external data as %s names it", async (folder) => {
    const entry = findPeer("transformers.js", project)!;
    await expectThree(await TransformersTarget.load(entry, [{ name: "a", folder: join(project, folder) }]));
  });

  test("says which folder it does not take", async () => {
    const entry = findPeer("transformers.js", project)!;
    const load = TransformersTarget.load(entry, [{ name: "a", folder: join(project, "absent") }]);
    await expect(load).rejects.toMatchObject({
      code: "model_unsupported",
      message: expect.stringContaining("config.json"),
    });
  });
});

describe("node-llama-cpp", () => {
  const context = { sequences: 2, contextLength: 64, threads: 1 };

  test("never has more sequences of a model than its context holds", async () => {
    const entry = findPeer("node-llama-cpp", project)!;
    await expectThree(await LlamaTarget.load(entry, [{ name: "a", folder: join(project, "one") }], context));
  });

  test("says which folder has no file for it", async () => {
    const entry = findPeer("node-llama-cpp", project)!;
    const load = LlamaTarget.load(entry, [{ name: "a", folder: project }], context);
    await expect(load).rejects.toMatchObject({
      code: "model_unsupported",
      message: expect.stringMatching(/0 \.gguf files/),
    });
  });
});
