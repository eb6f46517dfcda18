import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { inlineFunctions } from "../../src/onnx/inline-functions.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { readTensor } from "../../src/onnx/tensor-data.ts";
import { WireWriter } from "../../src/onnx/wire-writer.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { BlockllmError } from "../../src/support/errors.ts";
import { hostileFiles } from "./hostile-files.ts";
import { node, smallModel } from "./small-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const fixtures = fileURLToPath(new URL("../../fixtures", import.meta.url));
const folder = temporaryFolder();
const real = join(fixtures, "exports/genai_v0.9.2/llama-cpu-fp32");
const damaged = join(folder, "model.onnx");
copyFileSync(join(real, "model.onnx.data"), join(folder, "model.onnx.data"));

test.each(hostileFiles())("$name: $code", async ({ name, bytes, code, message }) => {
  const path = join(fixtures, "hostile", name);
  if (process.env["UPDATE_GOLDEN"]) {
    mkdirSync(join(fixtures, "hostile"), { recursive: true });
    writeFileSync(path, bytes);
  }
  expect(Buffer.compare(readFileSync(path), bytes), `${path} is not what hostile-files.ts makes`).toBe(0);
  await expect(readModel(path)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});

test("a real file cut anywhere is refused, with the byte, or is whole without its end", async () => {
  const bytes = readFileSync(join(real, "model.onnx"));
  let refused = 0;
  for (let length = 0; length < bytes.length; length += 61) {
    writeFileSync(damaged, bytes.subarray(0, length));
    const error = await outcome();
    expect(error?.message ?? "at byte 0 of 0").toMatch(/at byte \d+ of \d+/);
    refused += error ? 1 : 0;
  }
  // Only the operator sets and metadata come after the graph.
  expect(refused).toBeGreaterThan((bytes.length / 61) * 0.95);
});

test("a real file with flipped bytes is read or refused, and nothing else", async () => {
  const bytes = readFileSync(join(real, "model.onnx"));
  const flips = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(flips, async (changes) => {
      const copy = Buffer.from(bytes);
      for (const [offset, mask] of changes) copy[offset]! ^= mask;
      writeFileSync(damaged, copy);
      expect(await outcome()).toSatisfy(isOurs);
    }),
    { numRuns: 400 },
  );
});

test("random bytes are refused", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async (bytes) => {
      writeFileSync(damaged, bytes);
      expect(await outcome()).toBeInstanceOf(BlockllmError);
    }),
    { numRuns: 400 },
  );
});

test("a file of more than 2 GB is refused before it is read", async () => {
  const path = join(folder, "large.onnx");
  writeFileSync(path, "");
  truncateSync(path, 3 * 2 ** 30);
  await expect(readModel(path)).rejects.toMatchObject({
    code: "model_too_large",
    message: expect.stringContaining("3221225472 is over the limit 2147483647"),
    hint: expect.stringContaining("external data"),
  });
});

test("more nodes than any model has are refused while they are read", async () => {
  const one = writeModel(smallModel([node({ opType: "A", inputs: [], outputs: [] })]));
  const start = one.indexOf(0x0a, one.indexOf(0x3a));
  expect([...one.subarray(start, start + 5)]).toEqual([0x0a, 3, 0x22, 1, "A".charCodeAt(0)]);
  const nodes = Buffer.alloc(5 * 500_001, one.subarray(start, start + 5));
  const model = new WireWriter();
  model.bytes(7, nodes);
  writeFileSync(damaged, model.finish());
  await expect(readModel(damaged)).rejects.toMatchObject({
    code: "model_too_large",
    message: expect.stringContaining("500001 is over the limit 500000 (nodes)"),
  });
});

test("a folder and a missing file are not models", async () => {
  await expect(readModel(folder)).rejects.toMatchObject({ code: "model_not_found" });
  await expect(readModel(join(folder, "absent.onnx"))).rejects.toMatchObject({ code: "model_not_found" });
  await expect(readModel(join(damaged, "below.onnx"))).rejects.toMatchObject({ code: "model_not_found" });
});

/** Read well, or refused by an error that is made for people. */
function isOurs(error: Error | null): boolean {
  return error === null || error instanceof BlockllmError;
}

/** Reads the damaged file and does with it what a user of this room does. */
async function outcome(): Promise<Error | null> {
  try {
    const model = inlineFunctions(await readModel(damaged), () => false);
    for (const tensor of model.graph.initializers.values()) readTensor(tensor);
    writeModel(model);
    return null;
  } catch (error) {
    return error as Error;
  }
}
