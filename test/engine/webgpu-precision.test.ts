import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, test, vi } from "vitest";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { toolModel, node } from "../../src/engine/execute/webgpu/device-tensors.ts";
import { forWebgpu } from "../../src/engine/execute/webgpu/for-webgpu.ts";
import { computesHalf } from "../../src/engine/execute/webgpu/half-floats.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { OnnxModel, ValueInfo } from "../../src/onnx/model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { goldenOf, splitFixtures } from "../blocks/split-fixtures.ts";
import { missingWebgpu } from "./webgpu-here.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 240_000 });

/** A table stored as float16 whose rows are multiplied by two matrices, one of them turned. */
function halfModel(): OnnxModel {
  const info = (name: string, dtype: "float32" | "int64", dims: (string | number)[]): ValueInfo => ({
    name,
    dtype,
    dims,
  });
  const cast = (from: string, to: string) => node("Cast", [from], [to], { to: { kind: "int", value: 1 } });
  const turned = node("FusedMatMul", ["plain", "turned.float"], ["y"], { transB: { kind: "int", value: 1 } });
  const model = toolModel(
    [info("ids", "int64", [1, "N"])],
    [
      node("Gather", ["table", "ids"], ["stored"]),
      cast("stored", "rows"),
      cast("weight", "weight.float"),
      node("MatMul", ["rows", "weight.float"], ["plain"]),
      cast("turned", "turned.float"),
      { ...turned, domain: "com.microsoft" },
    ],
    [info("plain", "float32", [1, "N", 4]), info("y", "float32", [1, "N", 3])],
  );
  const put = (name: string, rows: number, columns: number): void => {
    // 0x3000 to 0x3bff: float16 numbers from 0.125 to 1.
    const bits = Uint16Array.from({ length: rows * columns }, (_, at) => 0x3000 + ((at * 517 + rows) % 0xbff));
    const data = { kind: "bytes" as const, bytes: new Uint8Array(bits.buffer) };
    model.graph.initializers.set(name, { name, dtype: "float16", dims: [rows, columns], data });
  };
  put("table", 8, 6);
  put("weight", 6, 4);
  put("turned", 3, 4);
  return model;
}

async function onHost(model: OnnxModel): Promise<number[]> {
  const session = await InferenceSession.create(writeModel(model), { executionProviders: ["cpu"] });
  const { plain, y } = await session.run({ ids: new Tensor("int64", BigInt64Array.of(3n, 0n, 7n), [1, 3]) });
  await session.release();
  return [...(plain!.data as Float32Array), ...(y!.data as Float32Array)];
}

test("graphs rewritten for a device give the same numbers", async () => {
  const model = halfModel();
  const expected = await onHost(model);
  for (const half of ["none", "tables"] as const) {
    const given = await onHost(forWebgpu(model, half));
    given.forEach((value, at) => expect(value).toBeCloseTo(expected[at]!, 5));
  }
  const products = forWebgpu(model, "products");
  const types = products.graph.nodes.map(({ opType }) => opType);
  expect(types.filter((type) => type === "MatMul").length).toBe(2);
  const given = await onHost(products);
  given.forEach((value, at) => expect(Math.abs(value / expected[at]! - 1)).toBeLessThan(3e-3));
});

test("float16 tables are cast before rows are picked only for devices without float16", () => {
  const order = (half: "none" | "tables") =>
    forWebgpu(halfModel(), half).graph.nodes.map(({ opType, inputs }) => `${opType} ${inputs[0]}`);
  expect(order("none").slice(0, 2)).toEqual(["Cast table", "Gather table.float"]);
  expect(order("tables").slice(0, 2)).toEqual(["Gather table", "Cast stored"]);
});

const missing = await missingWebgpu();
const half = missing === null && (await computesHalf());

/** Largest difference of logits, as a share of the largest logit. The host multiplies int4 by activations of 8 bits. */
const STORED: Record<string, number> = {
  "desk/genai-int4/support": 0.03,
  "exports/genai/llama_tied-cpu-int4-shared": 0.03,
  "exports/genai/llama-cuda-fp16": 1e-5,
  "exports/contrib/gpt2-fp16": 1e-5,
};

describe.skipIf(missing !== null)("weights that are not stored as float32, on a WebGPU device", () => {
  test.each(Object.entries(STORED))("%s gives the CPU's tokens and logits", async (path, limit) => {
    const split = await splitFixtures([path]);
    const host = await decode(split.repository, path, "cpu");
    const device = await decode(split.repository, path, "webgpu", host.tokens);
    expect(device.tokens).toEqual(host.tokens);
    expect(shareOff(device.logits, host.logits)).toBeLessThan(limit);
    await split.remove();
  });

  test("float16 products are refused by a device without, and close where it has them", async () => {
    const path = "exports/genai/llama-cuda-fp16";
    const split = await splitFixtures([path]);
    if (half) {
      const host = await decode(split.repository, path, "cpu");
      const device = await decode(split.repository, path, "webgpu:fp16", host.tokens);
      expect(shareOff(device.logits, host.logits)).toBeLessThan(0.01);
    } else {
      await expect(decode(split.repository, path, "webgpu:fp16")).rejects.toMatchObject({
        code: "device_unavailable",
        message: "the device does not compute with float16 (shader-f16)",
        hint: "--device webgpu",
      });
    }
    await split.remove();
  });
});

type Source = Parameters<typeof loadModels>[0];

/** Greedily, or along given tokens. */
async function decode(source: Source, path: string, device: string, along?: number[]) {
  const { executor, models } = await loadModels(source, [path], engineConfig({ device, threads: 1 }));
  const { prompt } = goldenOf(path);
  const [tokens, logits]: [number[], number[]] = [[], []];
  executor.open(1, { model: models[0]!.key, maxTokens: 128 });
  const common = { sequence: 1, logits: "last" as const };
  let [row] = await executor.execute([{ ...common, tokens: prompt, start: 0, stepwise: false }]);
  for (let at = 0; at < 4; at++) {
    tokens.push(row!.indexOf(Math.max(...row!)));
    logits.push(...row!);
    const next = { ...common, tokens: [along?.[at] ?? tokens[at]!], start: prompt.length + at, stepwise: true };
    [row] = await executor.execute([next]);
  }
  await executor.close();
  return { tokens, logits };
}

function shareOff(given: number[], expected: number[]): number {
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...given.map((value, at) => Math.abs(value - expected[at]!))) / largest;
}
