import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, describe, expect, test } from "vitest";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { closeFiles, readTensor, readTensorRange, storedBytes, streamTensor } from "../../src/onnx/tensor-data.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { summarise, summariseProto } from "./protobuf-oracle.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const fixtures = fileURLToPath(new URL("../../fixtures", import.meta.url));
const exports = ["exports", "desk"].flatMap((folder) =>
  readdirSync(join(fixtures, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".onnx"))
    .map((path) => join(folder, path)),
);
const folder = temporaryFolder();
afterAll(closeFiles);

describe.each(exports)("%s", (name) => {
  const path = join(fixtures, name);

  test("is read as protobufjs reads it, weights included", async () => {
    const model = await readModel(path);
    expect(model.graph.nodes.length).toBeGreaterThan(0);
    expect(summarise(model)).toEqual(summariseProto(readFileSync(path), dirname(path)));
  });
});

test.each(["exports/optimum/llama/model.onnx", "exports/genai/llama-cpu-int4/model.onnx"])(
  "%s written with its weights beside it runs in ONNX Runtime and gives the same tokens",
  async (name) => {
    const path = join(fixtures, name);
    const model = await readModel(path);
    const target = join(folder, name.replaceAll("/", "-"));
    mkdirSync(target);
    const written = join(target, "model.onnx");
    writeFileSync(written, await writeBeside(model, target));
    const [before, after] = [await firstLogits(path, model), await firstLogits(written, await readModel(written))];
    expect(after.length).toBeGreaterThan(300);
    expect(after).toEqual(before);
  },
);

test("tensors are read whole, in ranges and in chunks alike", async () => {
  const model = await readModel(join(fixtures, "desk/genai/base/model.onnx"));
  for (const tensor of model.graph.initializers.values()) {
    const whole = readTensor(tensor);
    const chunks: Uint8Array[] = [];
    for await (const chunk of streamTensor(tensor, 1000)) chunks.push(chunk);
    expect(Buffer.compare(Buffer.concat(chunks), whole)).toBe(0);
    const middle = Math.floor(whole.length / 3);
    expect(Buffer.compare(readTensorRange(tensor, middle, middle), whole.subarray(middle, 2 * middle))).toBe(0);
  }
});

/** One data file for all weights, in order, without gaps. */
async function writeBeside(model: OnnxModel, target: string): Promise<Uint8Array> {
  const weights: Uint8Array[] = [];
  let offset = 0;
  const bytes = writeModel(model, (tensor) => {
    const length = storedBytes(tensor);
    weights.push(readTensor(tensor));
    offset += length;
    return { location: "weights.bin", offset: offset - length, length };
  });
  writeFileSync(join(target, "weights.bin"), Buffer.concat(weights));
  return bytes;
}

/** Logits of three tokens without a past. */
async function firstLogits(path: string, model: OnnxModel): Promise<Float32Array> {
  const session = await InferenceSession.create(path);
  const ids = new Tensor("int64", BigInt64Array.from([0n, 1n, 2n]), [1, 3]);
  const mask = new Tensor("int64", BigInt64Array.from([1n, 1n, 1n]), [1, 3]);
  const past = new Tensor("float32", new Float32Array(0), [1, 2, 0, 16]);
  const feeds = Object.fromEntries(
    model.graph.inputs.map(({ name }) => [
      name,
      name.startsWith("past_") ? past : name === "attention_mask" ? mask : ids,
    ]),
  );
  const { logits } = await session.run(feeds, ["logits"]);
  await session.release();
  return logits!.data as Float32Array;
}
