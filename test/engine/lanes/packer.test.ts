import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Tensor } from "onnxruntime-node";
import { afterAll, expect, test, vi } from "vitest";
import { openPacked } from "../../../src/engine/execute/lanes/packed-model.ts";
import { type Packed, Packer, type ToPack } from "../../../src/engine/execute/lanes/packer.ts";
import { noiseRow, type Product, productModel } from "../../../src/engine/execute/product-kernel.ts";
import { openSession } from "../../../src/engine/execute/rebuilt-weights.ts";
import { readModel } from "../../../src/onnx/read-model.ts";
import { writeModel } from "../../../src/onnx/write-model.ts";

const folder = mkdtempSync(join(tmpdir(), "packer-test-"));
vi.stubEnv("TMPDIR", folder);
const packer = new Packer();
afterAll(() => {
  packer.end();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const ofBlocks = { kind: "blocks", zeroPoints: "none", groups: false, accuracyLevel: 4 } as const;
const PRODUCTS: [string, Product][] = [
  ["float32", { kind: "floats", turned: false, dims: [130, 70] }],
  // Their packed sizes are no multiples of anything.
  ["8 bits", { ...ofBlocks, inner: 160, outer: 70, bits: 8, blockSize: 32 }],
  ["4 bits", { ...ofBlocks, inner: 160, outer: 70, bits: 4, blockSize: 32 }],
  ["4 bits with zero points", { ...ofBlocks, inner: 256, outer: 34, bits: 4, blockSize: 64, zeroPoints: "uint8" }],
];

test.each(PRODUCTS)("packed weights in %s give the bits of plain ones", { timeout: 30_000 }, async (_, product) => {
  const { model, inner } = productModel(product);
  const plain = await openSession(model, { folder, threads: 1 });
  const packed = await packer.pack({ model, folder }, 2 ** 20);
  const opened = await openPacked(packed.path, { threads: 1, lifted: [], sharing: 1 });
  packed.remove();
  expect(existsSync(dirname(packed.path))).toBe(false);
  const x = new Tensor("float32", noiseRow(5 * inner), [1, 5, inner]);
  const [expected, found] = [await plain.run({ x }), await opened.run({ x })];
  expect(Buffer.from((found["y"]!.data as Float32Array).buffer)).toEqual(
    Buffer.from((expected["y"]!.data as Float32Array).buffer),
  );
  await plain.release();
  await opened.close();
});

test("what ONNX Runtime wrote is laid out anew: each piece where memory pages begin", async () => {
  const { model } = productModel(PRODUCTS[1]![1]);
  const packed = await packer.pack({ model, folder }, 2 ** 20);
  const { data } = (await readModel(packed.path)).graph.initializers.get("matrix")!;
  if (data.kind !== "file" || !data.packed) throw new Error("the matrix was not packed");
  const offsets = [...data.packed.values()].flatMap((value) =>
    [...value.matchAll(/[|;](\d+);\d+;\d+/g)].map(([, offset]) => Number(offset)),
  );
  expect(offsets.length).toBeGreaterThan(0);
  expect([data.offset, ...offsets].filter((offset) => offset % 4096 !== 0)).toEqual([]);
  expect(readdirSync(dirname(packed.path)).toSorted()).toEqual(["model.onnx", "model.onnx.weights", "plain.onnx"]);
  packed.remove();
});

test("a graph that cannot be packed is an error that leaves nothing behind, and the next one is packed", async () => {
  const path = join(folder, "broken.onnx");
  writeFileSync(path, "no model");
  const before = packedFolders();
  await expect(packer.pack({ path }, 2 ** 20)).rejects.toThrow(/broken\.onnx/);
  expect(packedFolders()).toEqual(before);
  const { model } = productModel(PRODUCTS[0]![1]);
  (await packer.pack({ model, folder }, 2 ** 20)).remove();
});

test("weights for which no disk has room are not packed", async () => {
  const { model } = productModel(PRODUCTS[0]![1]);
  await expect(packer.pack({ model, folder }, 2 ** 60)).rejects.toThrow(/no disk/);
});

test("the process takes the files away where who asked for them is gone", { timeout: 30_000 }, async () => {
  const { model } = productModel(PRODUCTS[0]![1]);
  const into = mkdtempSync(join(tmpdir(), "blockllm-packed-"));
  writeFileSync(join(into, "plain.onnx"), writeModel(model));
  const script = new URL("../../../src/engine/execute/lanes/packing-process.ts", import.meta.url);
  const child = fork(fileURLToPath(script), { execArgv: ["--import", import.meta.resolve("tsx")] });
  child.send({ plain: join(into, "plain.onnx"), weights: null, path: join(into, "model.onnx") } satisfies ToPack);
  const [{ reason }] = (await once(child, "message")) as [Packed];
  expect(reason).toBeNull();
  expect(existsSync(join(into, "model.onnx"))).toBe(true);
  child.disconnect();
  expect(await once(child, "exit")).toEqual([0, null]);
  expect(existsSync(into)).toBe(false);
});

function packedFolders(): string[] {
  return readdirSync(folder).filter((name) => name.startsWith("blockllm-packed-"));
}
