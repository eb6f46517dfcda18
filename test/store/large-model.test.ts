import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { open, stat, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { modelGraph, weightShapes, type Shapes } from "../../bench/model-graph.ts";
import type { WeightShape } from "../../bench/model-linear.ts";
import type { OnnxModel, TensorInfo } from "../../src/onnx/model.ts";
import { floatToHalf, storedBytes, tensorBytes } from "../../src/onnx/tensor-data.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import type { SplitOutcome } from "./split-process.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const LLAMA_7B: Shapes = {
  hidden: 4096,
  layers: 32,
  heads: 32,
  keyValueHeads: 32,
  headSize: 128,
  inner: 11008,
  vocabulary: 32000,
  context: 4096,
};
const ROTARY_BASE = 10_000;
const DATA_FILE = "model.onnx.data";
const MEBIBYTE = 2 ** 20;
const MOST_MEMORY = 400 * MEBIBYTE;
const SAMPLE_MILLISECONDS = 50;

/** What lies in `incoming/` at once is written and then found to be there already: weights of one shape are all equal. */
const DISK_NEEDED = 2 * 2 ** 30;
const missing = await whatIsMissing();
if (missing !== null) console.log(`The test of a large model is skipped: ${missing}`);

describe.skipIf(missing !== null)("a model of 13 GB in one sparse file", { timeout: 600_000 }, () => {
  it("is cut with little memory, its weights read once", async () => {
    const root = await temporaryFolder();
    const bytes = await writeSparseModel(root);
    expect(bytes).toBeGreaterThan(13e9);
    expect((await stat(join(root, DATA_FILE))).blocks * 512).toBeLessThan(4 * MEBIBYTE);

    const { outcome, peakBytes } = await splitWatched(root, join(root, "blocks"));

    const perLayer = Array.from({ length: LLAMA_7B.layers }, () => ["attention", "mlp"]).flat();
    expect(outcome.kinds).toEqual(["embedding", ...perLayer, "head"]);
    expect(outcome.warnings).toEqual(["no tokenizer.json: this model takes and gives token ids only"]);
    if (outcome.readBytes !== null) expect(outcome.readBytes / bytes).toBeLessThan(1.2);
    if (peakBytes !== null) expect(peakBytes / MEBIBYTE).toBeLessThan(MOST_MEMORY / MEBIBYTE);
    console.log(describeRun(outcome, peakBytes, bytes));
  });
});

async function whatIsMissing(): Promise<string | null> {
  // NTFS gives a truncated file its whole length on disk.
  if (process.platform === "win32") return "no sparse files";
  const { bavail, bsize } = await statfs(tmpdir());
  const free = bavail * bsize;
  return free < DISK_NEEDED ? `${tmpdir()} has ${free} bytes free, of ${DISK_NEEDED} needed` : null;
}

/**
 * Graph and weights as the builder of onnxruntime-genai writes them for float16. The rotary tables are what they have
 * to be, everything else is a hole. Gives the size of the weights.
 */
async function writeSparseModel(folder: string): Promise<number> {
  await using file = await open(join(folder, DATA_FILE), "w");
  const weights: TensorInfo[] = [];
  let end = 0;
  for (const { name, dims, fill } of weightShapes(LLAMA_7B)) {
    const length = tensorBytes("float16", dims);
    weights.push({
      name,
      dtype: "float16",
      dims,
      data: { kind: "file", path: join(folder, DATA_FILE), offset: end, length },
    });
    if (fill === "cos" || fill === "sin") await file.write(rotaryTable(fill), 0, length, end);
    end += length;
  }
  await file.truncate(end);
  const graph = writeModel(inHalves(modelGraph(LLAMA_7B, weights)), (tensor) =>
    tensor.data.kind === "file"
      ? { location: DATA_FILE, offset: tensor.data.offset, length: storedBytes(tensor) }
      : null,
  );
  await writeFile(join(folder, "model.onnx"), graph);
  return end;
}

function rotaryTable(fill: WeightShape["fill"]): Uint8Array {
  const width = LLAMA_7B.headSize / 2;
  const table = Uint16Array.from({ length: LLAMA_7B.context * width }, (_, at) => {
    const angle = Math.floor(at / width) / ROTARY_BASE ** ((at % width) / width);
    return floatToHalf(fill === "cos" ? Math.cos(angle) : Math.sin(angle));
  });
  return new Uint8Array(table.buffer);
}

function inHalves(model: OnnxModel): OnnxModel {
  const half = <Port extends { dtype: string | null }>(port: Port): Port =>
    port.dtype === "float32" ? { ...port, dtype: "float16" } : port;
  const { graph } = model;
  return { ...model, graph: { ...graph, inputs: graph.inputs.map(half), outputs: graph.outputs.map(half) } };
}

/** Peak memory is sampled from here, since the child is too busy to look; null off Linux. */
async function splitWatched(
  folder: string,
  repository: string,
): Promise<{ outcome: SplitOutcome; peakBytes: number | null }> {
  const script = join(import.meta.dirname, "split-process.ts");
  const child = spawn(process.execPath, ["--import", "tsx", script, folder, repository], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  let peakBytes: number | null = null;
  const sampling = setInterval(() => {
    const now = proportionalSetBytes(child.pid!);
    if (now !== null) peakBytes = Math.max(peakBytes ?? 0, now);
  }, SAMPLE_MILLISECONDS);
  const code = await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  clearInterval(sampling);
  expect(code).toBe(0);
  return { outcome: JSON.parse(output.trimEnd().split("\n").at(-1)!) as SplitOutcome, peakBytes };
}

/** Of the process and all its threads; null where the system does not tell, or the process has just ended. */
function proportionalSetBytes(pid: number): number | null {
  try {
    const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    return match === null ? null : Number(match[1]) * 1024;
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}

function describeRun({ readBytes }: SplitOutcome, peakBytes: number | null, bytes: number): string {
  const read = readBytes === null ? "unknown" : `${(readBytes / bytes).toFixed(2)} times`;
  const peak = peakBytes === null ? "unknown" : `${Math.round(peakBytes / MEBIBYTE)} MiB`;
  return `${(bytes / 1e9).toFixed(1)} GB of weights: read ${read}, peak memory ${peak}`;
}
