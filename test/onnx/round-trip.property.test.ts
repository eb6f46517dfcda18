import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { readModel } from "../../src/onnx/read-model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { arbitraryModel } from "./arbitrary-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const path = join(temporaryFolder(), "model.onnx");

test("read(write(model)) is the model, and writing it again gives the same bytes", async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryModel, async (model) => {
      const bytes = writeModel(model);
      writeFileSync(path, bytes);
      const again = await readModel(path);
      expect(plain(again)).toEqual(plain(model));
      expect(Buffer.compare(writeModel(again), bytes)).toBe(0);
    }),
    { numRuns: 200 },
  );
});

/** Bytes as plain arrays: a Buffer and a Uint8Array of the same bytes are equal here. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value];
  if (value instanceof Map) return new Map([...value].map(([key, entry]) => [key, plain(entry)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, plain(entry)]));
}
