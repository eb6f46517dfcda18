import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ExternalData } from "../../src/onnx/external-data.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const root = temporaryFolder();
const folder = join(root, "model");
mkdirSync(join(folder, "parts"), { recursive: true });
writeFileSync(join(root, "secret"), Buffer.alloc(64));
writeFileSync(join(folder, "weights"), Buffer.alloc(64));
writeFileSync(join(folder, "parts", "weights"), Buffer.alloc(64));
symlinkSync(join(root, "secret"), join(folder, "link-out"));
symlinkSync("weights", join(folder, "link-in"));
symlinkSync(root, join(folder, "parts", "up"));
symlinkSync("loop", join(folder, "loop"));

function locate(entries: Record<string, string>, needed = 16): unknown {
  return new ExternalData(join(folder, "model.onnx")).locate("w", new Map(Object.entries(entries)), needed);
}

test("a place inside the folder, also below it and through links that stay", () => {
  const place = { kind: "file", path: join(folder, "weights"), offset: 8, length: 16 };
  expect(locate({ location: "weights", offset: "8", length: "16" })).toEqual(place);
  expect(locate({ location: "weights", offset: "8" })).toEqual(place);
  expect(locate({ location: "parts/weights" })).toMatchObject({ offset: 0, length: 16 });
  expect(locate({ location: "link-in" })).toMatchObject({ length: 16 });
});

test.each([
  "../secret",
  "parts/../../secret",
  "parts\\..\\..\\secret",
  join(root, "secret"),
  "C:\\secret",
  "c:secret",
  "\\\\host\\share",
  "weights\0.bin",
  "link-out",
  "parts/up/secret",
])("%j leaves the folder", (location) => {
  expect(() => locate({ location })).toThrow(
    expect.objectContaining({ code: "external_data_escapes", message: expect.stringContaining("tensor w") }),
  );
});

test.each(["absent", "parts", "weights/inside", "loop", "x".repeat(5000)])("%.20s is not there", (location) => {
  expect(() => locate({ location })).toThrow(expect.objectContaining({ code: "external_data_missing" }));
});

test("too short, or not as long as the tensor: the tensor, the value and the limit are named", () => {
  expect(() => locate({ location: "weights", offset: "49" })).toThrow(
    expect.objectContaining({
      code: "external_data_short",
      message: `tensor w: offset 49 + length 16 is beyond the 64 bytes of ${join(folder, "weights")}`,
    }),
  );
  expect(() => locate({ location: "weights", length: "15" })).toThrow(
    expect.objectContaining({ code: "external_data_short", message: expect.stringMatching(/is 15 bytes.* need 16/) }),
  );
});

test.each([{}, { location: "weights", offset: "-1" }, { location: "weights", length: "1e3" }])(
  "%j is malformed",
  (entries) => {
    expect(() => locate(entries)).toThrow(expect.objectContaining({ code: "model_invalid" }));
  },
);
