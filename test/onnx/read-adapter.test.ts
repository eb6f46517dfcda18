import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

import { bindAdapter, readAdapter } from "../../src/onnx/read-adapter.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { closeFiles, readTensor } from "../../src/onnx/tensor-data.ts";
import { BlockllmError } from "../../src/support/errors.ts";

const folder = join(import.meta.dirname, "../../fixtures/exports/olive/llama-lora-inputs");
const file = join(folder, "adapter_weights.onnx_adapter");
const scratch = mkdtempSync(join(tmpdir(), "blockllm-adapter-"));
afterAll(() => {
  closeFiles();
  rmSync(scratch, { recursive: true });
});

describe("an .onnx_adapter file that ONNX Runtime's Python wrote", () => {
  it("has the tensors of the graph the adapter came from, byte for byte", async () => {
    const whole = await readModel(join(folder, "../../genai4/llama-cpu-fp32-lora/model.onnx"));
    const tensors = readAdapter(file);
    expect(tensors).toHaveLength(42);
    for (const tensor of tensors) {
      const original = whole.graph.initializers.get(tensor.name)!;
      expect([tensor.dtype, tensor.dims]).toEqual([original.dtype, original.dims]);
      expect(Buffer.compare(readTensor(tensor), readTensor(original)), tensor.name).toBe(0);
    }
  });

  it("is bound to the inputs of its names, and to no other graph", async () => {
    const model = await readModel(join(folder, "model.onnx"));
    const bound = bindAdapter(model, readAdapter(file), file);
    expect(bound.graph.initializers.size).toBe(model.graph.initializers.size + 42);
    const foreign = await readModel(join(folder, "../../optimum/llama/model.onnx"));
    expect(() => bindAdapter(foreign, readAdapter(file), file)).toThrow(/the graph has no such input/);
  });
});

it.each(["nowhere.onnx_adapter", ""])("an adapter file that is not there is called so (%j)", (name) => {
  expect(() => readAdapter(join(scratch, name))).toThrow(expect.objectContaining({ code: "model_not_found" }));
});

describe("a damaged .onnx_adapter file", () => {
  const bytes = readFileSync(file);
  const read = (damaged: Uint8Array): unknown => {
    const path = join(scratch, "damaged.onnx_adapter");
    writeFileSync(path, damaged);
    return readAdapter(path);
  };

  it.each([0, 3, 7, 8, 40, 400, 4000, bytes.length >> 1])("cut after %i bytes is refused", (length) => {
    expect(() => read(bytes.subarray(0, length))).toThrow(BlockllmError);
  });

  it("with any byte of its structure changed is read or refused, never a crash", () => {
    let refused = 0;
    for (let at = 0; at < 4096; at += 13) {
      const damaged = Buffer.from(bytes);
      damaged[at] = damaged[at]! ^ 0xff;
      try {
        read(damaged);
      } catch (error) {
        expect(error, `byte ${at}`).toBeInstanceOf(BlockllmError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(10);
  });
});
