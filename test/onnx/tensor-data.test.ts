import { mkdirSync, readdirSync, renameSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { TensorInfo } from "../../src/onnx/model.ts";
import { closeFiles, readTensor, readTensorRange, streamTensor } from "../../src/onnx/tensor-data.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const folder = temporaryFolder();
afterAll(closeFiles);

function fileTensor(path: string, length: number, offset = 0): TensorInfo {
  return { name: "w", dtype: "uint8", dims: [length], data: { kind: "file", path, offset, length } };
}

async function collect(chunks: AsyncGenerator<Uint8Array>): Promise<number[][]> {
  const all: number[][] = [];
  for await (const chunk of chunks) all.push([...chunk]);
  return all;
}

test("whole, in ranges, in chunks that stay the receiver's", async () => {
  const path = join(folder, "seven");
  writeFileSync(path, Uint8Array.of(9, 1, 2, 3, 4, 5, 9));
  const tensor = fileTensor(path, 5, 1);
  expect([...readTensor(tensor)]).toEqual([1, 2, 3, 4, 5]);
  expect([...readTensorRange(tensor, 3, 2)]).toEqual([4, 5]);
  expect(await collect(streamTensor(tensor, 2))).toEqual([[1, 2], [3, 4], [5]]);
  expect(await collect(streamTensor(fileTensor(path, 0)))).toEqual([]);
  const inMemory: TensorInfo = { ...tensor, data: { kind: "bytes", bytes: Uint8Array.of(1, 2, 3, 4, 5) } };
  expect(await collect(streamTensor(inMemory, 2))).toEqual([[1, 2], [3, 4], [5]]);
  expect(() => readTensorRange(tensor, 3, 3)).toThrow(/bytes 3 \+ 3 of 5/);
});

test("a file that was replaced is read anew; one that is gone or shrank is an error", async () => {
  const path = join(folder, "changing");
  writeFileSync(path, Uint8Array.of(1, 1));
  expect([...readTensor(fileTensor(path, 2))]).toEqual([1, 1]);
  writeFileSync(`${path}.new`, Uint8Array.of(2, 2));
  renameSync(`${path}.new`, path);
  expect([...readTensor(fileTensor(path, 2))]).toEqual([2, 2]);
  truncateSync(path, 1);
  const short = expect.objectContaining({
    code: "external_data_short",
    message: expect.stringContaining("1 of 2 bytes"),
  });
  expect(() => readTensor(fileTensor(path, 2))).toThrow(short);
  await expect(collect(streamTensor(fileTensor(path, 2)))).rejects.toEqual(short);
  unlinkSync(path);
  expect(() => readTensor(fileTensor(path, 2))).toThrow(expect.objectContaining({ code: "external_data_missing" }));
});

test.runIf(process.platform === "linux")("at most sixteen files stay open, and closeFiles closes them", () => {
  mkdirSync(join(folder, "many"));
  closeFiles();
  const before = openDescriptors();
  for (let index = 0; index < 40; index++) {
    const path = join(folder, "many", String(index));
    writeFileSync(path, Uint8Array.of(index));
    expect([...readTensor(fileTensor(path, 1))]).toEqual([index]);
  }
  expect(openDescriptors() - before).toBe(16);
  closeFiles();
  expect(openDescriptors()).toBe(before);
});

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
