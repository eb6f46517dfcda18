/**
 * Self-test, conformance and speed on the WebGPU device of this machine, offline. bench/gpu/pack.ts puts it into a folder
 * that needs nothing else; here: `npx tsx bench/gpu/run.ts --shapes tiny --batches 1,4 --tenants 2 --steps 4`.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { testDevice } from "../../src/engine/device/test-device.ts";
import { addModel } from "../../src/store/add-model.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { verifyModel } from "../../src/engine/verify-model.ts";
import { EIGHT_TENANTS, makeModels, type GeneratedModel } from "../make-models.ts";
import { machine } from "../measure.ts";
import { SMOLLM2_135M, type Shapes } from "../model-graph.ts";
import { inWorkFolder } from "../work-folder.ts";
import { runBlocks, runWhole, type GpuCase } from "./sides.ts";

const SHAPES: Record<string, Shapes> = {
  "135m": SMOLLM2_135M,
  // meta-llama/Llama-3.2-1B
  "1b": {
    hidden: 2048,
    layers: 16,
    heads: 32,
    keyValueHeads: 8,
    headSize: 64,
    inner: 8192,
    vocabulary: 128_256,
    context: 8192,
  },
  tiny: {
    hidden: 64,
    layers: 2,
    heads: 4,
    keyValueHeads: 2,
    headSize: 16,
    inner: 128,
    vocabulary: 256,
    context: 512,
  },
};

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "135m,1b" },
    batches: { type: "string", default: "1,16,64" },
    tenants: { type: "string", default: "8" },
    context: { type: "string", default: "128" },
    steps: { type: "string", default: "32" },
    folder: { type: "string", default: "." },
    device: { type: "string", default: "a device without a name" },
  },
});
const numbers = (text: string): number[] => text.split(",").map(Number);

const test = await testDevice("webgpu");
console.log(
  `self-test: ${test.passed ? `passed, ${test.speedup.toPrecision(3)} times the CPU` : `FAILED: ${test.reason}`}`,
);
if (!test.passed) process.exit(1);

const report: object[] = [];
const table = new Table({ head: ["shapes", "batch", "tenants", "", "blockllm", "per model", "ratio", "tokens"] });
for (const name of values.shapes.split(","))
  await inWorkFolder(values.folder, async (folder) => measureShapes(name, folder));
console.log(table.toString());
const document = { device: values.device, machine: machine(), selfTest: test, results: report };
await writeFile(join(values.folder, "gpu-results.json"), JSON.stringify(document, null, 2));

async function measureShapes(name: string, folder: string): Promise<void> {
  const shapes = SHAPES[name]!;
  const tenants = EIGHT_TENANTS.slice(0, Number(values.tenants));
  console.log(`${name}: making ${tenants.length} models`);
  const models = await makeModels(join(folder, "models"), { shapes, tenants });
  const repository = join(folder, "blocks");
  const store = await openRepository(repository, { create: true });
  for (const model of models) await addModel(store, model.folder);
  const verified = await verifyModel(store, models[0]!.name, { device: "webgpu", against: models[0]!.folder });
  const { passed, max_abs_logit_diff, kl } = verified;
  console.log(`${name}: conformance ${passed ? "passed" : "FAILED"}: logits differ by ${max_abs_logit_diff}, KL ${kl}`);
  report.push({ shapes: name, conformance: verified });
  for (const batch of numbers(values.batches)) await measureBatch(name, batch, { shapes, models, repository });
}

async function measureBatch(
  name: string,
  batch: number,
  { shapes, models, repository }: { shapes: Shapes; models: GeneratedModel[]; repository: string },
): Promise<void> {
  const used = models.slice(0, Math.min(batch, models.length));
  const given: GpuCase = {
    shapes,
    folders: used.map(({ folder }) => folder),
    repository,
    models: used.map((model) => model.name),
    batch,
    context: Number(values.context),
    steps: Number(values.steps),
  };
  const blocks = await runBlocks(given);
  const whole = await runWhole(given).catch((error: unknown) => String(error).split("\n")[0]!);
  report.push({ shapes: name, batch, tenants: used.length, blocks, whole });
  for (const kind of ["prefill", "decode"] as const) {
    const own = blocks[`${kind}TokensPerSecond`];
    const row = [name, batch, used.length, `${kind} tokens/s`, own.toFixed(1)];
    if (typeof whole === "string") {
      table.push([...row, whole.slice(0, 40), "", ""]);
      continue;
    }
    const other = whole[`${kind}TokensPerSecond`];
    const same = blocks.tokens.join() === whole.tokens.join() ? "same" : "different";
    table.push([...row, other.toFixed(1), (own / other).toFixed(2), same]);
  }
}
